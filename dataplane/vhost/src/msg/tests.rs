// SPDX-License-Identifier: Apache-2.0
//! Messages: what is one, and what is none.

use super::*;

fn header(request: u32, flags: u32, size: u32) -> Result<Header, MessageError> {
    let mut bytes = [0; HEADER_LEN];
    for (to, from) in bytes.chunks_exact_mut(4).zip([request, flags, size]) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    Header::decode(&bytes)
}

fn decode(request: u32, payload: &[u8]) -> Result<Request, MessageError> {
    let size = u32::try_from(payload.len()).unwrap();
    Request::decode(header(request, 1, size)?, payload)
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn headers_of_requests_pass_and_others_do_not() {
    let plain = header(1, 1, 0).unwrap();
    assert!(!plain.need_reply);
    assert!(header(1, 9, 0).unwrap().need_reply);
    for flags in [0, 2, 3, 5, 13, 0x11, u32::MAX] {
        assert_eq!(header(1, flags, 0), Err(MessageError::Flags(flags)));
    }
    assert!(header(5, 1, 1024).is_ok());
    for size in [1025, u32::MAX] {
        let refused = header(5, 1, size).unwrap_err();
        assert!(
            refused.to_string().starts_with("SET_MEM_TABLE"),
            "{refused}"
        );
    }
}

#[test]
fn payloads_have_their_length() {
    for request in [1, 3, 4, 15, 17, 34, 36, 40] {
        assert!(decode(request, &[]).is_ok(), "{request}");
        assert!(decode(request, &[0]).is_err(), "{request}");
    }
    for request in [2, 8, 10, 11, 12, 13, 14, 16, 18, 39] {
        assert!(decode(request, &[0; 8]).is_ok(), "{request}");
        for len in [0, 7, 9, 1024] {
            assert!(decode(request, &vec![0; len]).is_err(), "{request} {len}");
        }
    }
    for request in [9, 37, 38] {
        assert!(decode(request, &[0; 40]).is_ok(), "{request}");
        assert!(decode(request, &[0; 32]).is_err(), "{request}");
    }
}

#[test]
fn a_memory_table_has_one_to_eight_regions_and_all_of_them() {
    let table = |count: u64, regions: usize| {
        let mut payload = words(&[count]);
        payload.extend(words(&vec![7; 4 * regions]));
        decode(5, &payload)
    };
    let region = RegionSpec {
        guest_address: 7,
        bytes: 7,
        user_address: 7,
        file_offset: 7,
    };
    assert_eq!(table(2, 2), Ok(Request::SetMemTable(vec![region; 2])));
    assert_eq!(table(2, 8), Ok(Request::SetMemTable(vec![region; 2])));
    assert_eq!(table(0, 8), Err(MessageError::Table(0)));
    assert_eq!(table(9, 9), Err(MessageError::Table(9)));
    let many = u64::from(u32::MAX);
    assert_eq!(table(many, 8), Err(MessageError::Table(u32::MAX)));
    assert!(matches!(table(3, 2), Err(MessageError::Payload { .. })));
    assert!(matches!(decode(5, &[]), Err(MessageError::Payload { .. })));
}

#[test]
fn file_descriptors_are_announced() {
    let Ok(request) = decode(12, &words(&[3])) else {
        panic!("not a request")
    };
    assert_eq!(request.fds(), 1..=1);
    let none = decode(13, &words(&[0x103])).unwrap();
    let Request::SetVringCall(fd) = none else {
        panic!("another request")
    };
    assert_eq!(fd.index, 3);
    assert_eq!(Request::SetVringCall(fd).fds(), 0..=0);
    assert_eq!(Request::GetFeatures.fds(), 0..=0);
}

#[test]
fn what_is_not_known_has_a_name_and_is_not_supported() {
    let request = decode(6, &[1, 2, 3]).unwrap();
    assert_eq!(request, Request::Unsupported(Name(6)));
    assert_eq!(Name(6).to_string(), "SET_LOG_BASE");
    assert_eq!(Name(43).to_string(), "CHECK_DEVICE_STATE");
    for name in [0, 44, u32::MAX] {
        assert_eq!(Name(name).to_string(), format!("request {name}"));
    }
}

#[test]
fn answers_are_answers() {
    assert_eq!(header_words(&reply_word(15, 9)), [15, 5, 8, 9, 0]);
    let state = RingState { index: 3, num: 77 };
    assert_eq!(header_words(&reply_state(state)), [11, 5, 8, 3, 77]);
}

fn header_words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
        .collect()
}
