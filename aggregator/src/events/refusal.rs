//! What ClickHouse says when the rows of an insert are at fault.
//!
//! ```text
//! Code: 469. DB::Exception: Constraint `…` … is violated at row 7 … (VIOLATED_CONSTRAINT)
//! ```

/// Codes that speak of values (`src/Common/ErrorCodes.cpp` of ClickHouse). Not among them: 27 (input that can't be parsed) and 33
/// (not all data could be read), which a body that was cut off on the way gives too.
const CODES_OF_DATA: [u32; 20] = [
    6,   // CANNOT_PARSE_TEXT
    26,  // CANNOT_PARSE_QUOTED_STRING
    38,  // CANNOT_PARSE_DATE
    41,  // CANNOT_PARSE_DATETIME
    53,  // TYPE_MISMATCH
    69,  // ARGUMENT_OUT_OF_BOUND
    70,  // CANNOT_CONVERT_TYPE
    72,  // CANNOT_PARSE_NUMBER
    117, // INCORRECT_DATA
    128, // TOO_LARGE_ARRAY_SIZE
    131, // TOO_LARGE_STRING_SIZE
    153, // ILLEGAL_DIVISION
    190, // SIZES_OF_ARRAYS_DONT_MATCH
    321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    376, // CANNOT_PARSE_UUID
    395, // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
    407, // DECIMAL_OVERFLOW
    469, // VIOLATED_CONSTRAINT
    691, // UNKNOWN_ELEMENT_OF_ENUM
];

/// Whether an answer says that the values are at fault.
pub(super) fn is_of_data(said: &str) -> bool {
    code(said).is_some_and(|code| CODES_OF_DATA.contains(&code))
}

/// The first code, which is ClickHouse's own; values may be quoted behind it.
fn code(said: &str) -> Option<u32> {
    let (_, rest) = said.split_once("Code: ")?;
    let digits = rest.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_speak_of_values_are_the_datas_fault() {
        for (said, expected) in [
            ("Code: 469. DB::Exception: Constraint is violated. (VIOLATED_CONSTRAINT)", true),
            ("Code: 53. DB::Exception: Type mismatch in VALUES section", true),
            ("Code: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS)", false),
            ("Code: 241. DB::Exception: Memory limit exceeded, while parsing 'Code: 469.'", false),
            ("Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)", false),
            ("Code: 33. DB::Exception: Cannot read all data. (CANNOT_READ_ALL_DATA)", false),
            ("Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)", false),
            ("upstream timed out", false),
            ("Code: ", false),
            ("", false),
        ] {
            assert_eq!(is_of_data(said), expected, "{said}");
        }
    }
}
