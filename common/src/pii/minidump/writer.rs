//! Writes small dumps for tests.

/// A dump under construction: streams are appended, offsets filled in at the end.
#[derive(Default)]
pub(super) struct DumpWriter {
    /// Everything after header and directory.
    body: Vec<u8>,
    /// Type, offset and size of each stream.
    streams: Vec<(u32, u32, u32)>,
}

/// Room for the directory: header, then this many entries.
const STREAMS: u32 = 16;
const BODY_AT: u32 = 32 + 12 * STREAMS;

impl DumpWriter {
    /// Appends bytes and gives their offset in the file.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> u32 {
        let offset = self.next();
        self.body.extend_from_slice(bytes);
        offset
    }

    /// The offset of what is appended next.
    pub(super) fn next(&self) -> u32 {
        BODY_AT + u32::try_from(self.body.len()).unwrap()
    }

    /// Appends a stream of these bytes.
    pub(super) fn stream(&mut self, stream_type: u32, bytes: &[u8]) -> u32 {
        let offset = self.bytes(bytes);
        self.streams.push((stream_type, offset, u32::try_from(bytes.len()).unwrap()));
        offset
    }

    /// Appends a string with its length in bytes.
    pub(super) fn utf16(&mut self, text: &str) -> u32 {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut string = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
        string.extend(bytes);
        string.extend([0, 0]);
        self.bytes(&string)
    }

    /// A thread list: address of each stack, where its bytes are and how many.
    pub(super) fn threads(&mut self, stacks: &[(u64, u32, u32)]) {
        let mut list = u32::try_from(stacks.len()).unwrap().to_le_bytes().to_vec();
        for &(address, offset, size) in stacks {
            list.extend([0; 24]);
            list.extend(address.to_le_bytes());
            list.extend(size.to_le_bytes());
            list.extend(offset.to_le_bytes());
            list.extend([0; 8]);
        }
        self.stream(3, &list);
    }

    /// A memory list, its first entry aligned as some writers do it.
    pub(super) fn memory(&mut self, ranges: &[(u64, u32, u32)]) {
        let mut list = u32::try_from(ranges.len()).unwrap().to_le_bytes().to_vec();
        list.extend([0; 4]);
        for &(address, offset, size) in ranges {
            list.extend(address.to_le_bytes());
            list.extend(size.to_le_bytes());
            list.extend(offset.to_le_bytes());
        }
        self.stream(5, &list);
    }

    /// A list of all memory, its bytes behind it.
    pub(super) fn memory_64(&mut self, ranges: &[(u64, &[u8])]) {
        let list_size = 16 + 16 * u32::try_from(ranges.len()).unwrap();
        let bytes_at = u64::from(self.next() + list_size);
        let mut list = (ranges.len() as u64).to_le_bytes().to_vec();
        list.extend(bytes_at.to_le_bytes());
        for (address, bytes) in ranges {
            list.extend(address.to_le_bytes());
            list.extend((bytes.len() as u64).to_le_bytes());
        }
        self.stream(9, &list);
        for (_, bytes) in ranges {
            self.bytes(bytes);
        }
    }

    /// A module list with one module.
    pub(super) fn module(&mut self, code_file: &str, debug_file: &str) {
        let name = self.utf16(code_file);
        let mut record = b"RSDS".to_vec();
        record.extend([7; 20]);
        record.extend(debug_file.as_bytes());
        record.push(0);
        let (record_at, record_size) = (self.bytes(&record), u32::try_from(record.len()).unwrap());
        let mut list = 1_u32.to_le_bytes().to_vec();
        list.extend([0; 20]);
        list.extend(name.to_le_bytes());
        list.extend([0; 52]);
        list.extend(record_size.to_le_bytes());
        list.extend(record_at.to_le_bytes());
        list.extend([0; 24]);
        self.stream(4, &list);
    }

    /// Crashpad's information with one annotation.
    pub(super) fn annotation(&mut self, key: &str, value: &str) {
        let mut string = |text: &str| {
            let mut bytes = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
            bytes.extend(text.as_bytes());
            self.bytes(&bytes)
        };
        let (key, value) = (string(key), string(value));
        let mut dictionary = 1_u32.to_le_bytes().to_vec();
        dictionary.extend(key.to_le_bytes());
        dictionary.extend(value.to_le_bytes());
        let dictionary_at = self.bytes(&dictionary);
        let mut info = vec![0; 36];
        info.extend(12_u32.to_le_bytes());
        info.extend(dictionary_at.to_le_bytes());
        info.extend([0; 8]);
        self.stream(0x4350_0001, &info);
    }

    /// The file.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut file = b"MDMP".to_vec();
        file.extend(0xa793_u32.to_le_bytes());
        file.extend(u32::try_from(self.streams.len()).unwrap().to_le_bytes());
        file.extend(32_u32.to_le_bytes());
        file.resize(32, 0);
        for (stream_type, offset, size) in self.streams {
            file.extend(stream_type.to_le_bytes());
            file.extend(size.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        file.resize(BODY_AT as usize, 0);
        file.extend(self.body);
        file
    }
}
