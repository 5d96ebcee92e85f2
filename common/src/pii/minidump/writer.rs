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

    /// A text with its length in bytes.
    fn utf8(&mut self, text: &str) -> u32 {
        let mut bytes = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        self.bytes(&bytes)
    }

    /// A list of entries of so many words each, where it is and how long.
    fn list(&mut self, words: &[u32], words_each: usize) -> [u32; 2] {
        let count = u32::try_from(words.len() / words_each).unwrap();
        let bytes: Vec<u8> = std::iter::once(&count).chain(words).flat_map(|word| word.to_le_bytes()).collect();
        [u32::try_from(bytes.len()).unwrap(), self.bytes(&bytes)]
    }

    /// Crashpad's information: an annotation of the process, and one of each kind of a module.
    pub(super) fn annotations(&mut self, process: &str, [text, simple, object]: [&str; 3]) {
        let key = self.utf8("key");
        let values = [process, text, simple, object].map(|value| self.utf8(value));
        let of_process = self.list(&[key, values[0]], 2);
        let texts = self.list(&[values[1]], 1);
        let of_module = self.list(&[key, values[2]], 2);
        let objects = self.list(&[key, 1, values[3]], 3);
        let module: Vec<u8> =
            [&[1_u32][..], &texts, &of_module, &objects].concat().iter().flat_map(|word| word.to_le_bytes()).collect();
        let module_at = self.bytes(&module);
        let modules = self.list(&[0, 28, module_at], 3);
        let mut info = vec![0; 36];
        info.extend([of_process, modules].concat().iter().flat_map(|word| word.to_le_bytes()));
        info.extend([0; 12]);
        self.stream(0x4350_0001, &info);
    }

    /// A list of one handle to an object of this name.
    pub(super) fn handle(&mut self, object: &str) {
        let (kind, name) = (self.utf16("File"), self.utf16(object));
        let words = [16, 40, 1, 0, 4, 0, kind, name, 0, 0, 0, 0, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        self.stream(12, &bytes);
    }

    /// A list of one thread's name.
    pub(super) fn thread_name(&mut self, name: &str) {
        let name = self.utf16(name);
        let words = [1, 7, name, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        self.stream(24, &bytes);
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
