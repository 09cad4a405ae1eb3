// SPDX-License-Identifier: Apache-2.0
//! Maker of a BPF object file, which needs no compiler: an XDP program that counts up and passes every frame.

/// Size of the file header, and of a section header, in bytes (ELF-64).
const FILE_HEADER: usize = 64;

/// Sections, by number: names, symbols, program, licence.
const SECTIONS: [&str; 4] = [".strtab", ".symtab", "xdp", "license"];

/// Makes an object whose section `xdp` is a program of `length` additions that answers XDP_PASS.
pub(crate) fn object(length: usize) -> Vec<u8> {
    // opcode, registers, offset, immediate: r0 = 2 (XDP_PASS); r1 = 0; r1 += 1 and so on; exit.
    let mut program = vec![0xb7, 0, 0, 0, 2, 0, 0, 0, 0xb7, 1, 0, 0, 0, 0, 0, 0];
    program.extend([0x07, 1, 0, 0, 1, 0, 0, 0].repeat(length));
    program.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);

    let mut names = vec![0];
    let mut name = |text: &str| {
        let at = u32::try_from(names.len()).unwrap();
        names.extend(text.as_bytes());
        names.push(0);
        at
    };
    let section_names = SECTIONS.map(&mut name);
    // A global function in section 3, a global object in section 4.
    let symbols = [
        symbol(0, 0, 0, 0),
        symbol(name("pass"), 0x12, 3, program.len()),
        symbol(name("_license"), 0x11, 4, 4),
    ]
    .concat();

    let contents = [names, symbols, program, b"GPL\0".to_vec()];
    // Type, flags, link, first global symbol, size of an entry.
    let kinds: [[u64; 5]; 4] = [
        [3, 0, 0, 0, 0],
        [2, 0, 1, 1, 24],
        [1, 6, 0, 0, 0],
        [1, 3, 0, 0, 0],
    ];
    let mut body = Vec::new();
    let mut headers = vec![0; FILE_HEADER];
    for ((content, name), [kind, flags, link, info, entry]) in
        contents.iter().zip(section_names).zip(kinds)
    {
        let offset = FILE_HEADER + body.len();
        body.extend(content);
        body.resize(body.len().next_multiple_of(8), 0);
        let half = |value: u64| u32::try_from(value).unwrap().to_le_bytes();
        headers.extend(name.to_le_bytes());
        headers.extend(half(kind));
        for word in [flags, 0, offset as u64, content.len() as u64] {
            headers.extend(word.to_le_bytes());
        }
        headers.extend(half(link));
        headers.extend(half(info));
        for word in [8, entry] {
            headers.extend(word.to_le_bytes());
        }
    }
    let mut file = file_header(FILE_HEADER + body.len());
    file.extend(body);
    file.extend(headers);
    file
}

/// Makes the header of a relocatable file for BPF whose section headers lie at `sections`.
fn file_header(sections: usize) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    for half in [1u16, 247] {
        header.extend(half.to_le_bytes());
    }
    header.extend(1u32.to_le_bytes());
    for word in [0, 0, sections as u64] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0u32.to_le_bytes());
    // Sizes of the headers; five sections, the empty one first, their names in the first of ours.
    for half in [64u16, 0, 0, 64, 5, 1] {
        header.extend(half.to_le_bytes());
    }
    header
}

fn symbol(name: u32, info: u8, section: u16, size: usize) -> Vec<u8> {
    let mut symbol = name.to_le_bytes().to_vec();
    symbol.extend([info, 0]);
    symbol.extend(section.to_le_bytes());
    symbol.extend(0u64.to_le_bytes());
    symbol.extend((size as u64).to_le_bytes());
    symbol
}
