//! Writes pickles of plain values. Source: `pickletools` of Python 3.4 and later, which read protocol 4.

use super::Value;

const PROTO: u8 = 0x80;
const PROTOCOL: u8 = 4;

/// The pickle of a value, for any Python 3. An object is written as `None`: no value that comes from JSON holds one.
pub(in crate::broker::rq) fn pickle(value: &Value) -> Vec<u8> {
    let mut out = vec![PROTO, PROTOCOL];
    write(value, &mut out);
    out.push(b'.');
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::None | Value::Object(_) => out.push(b'N'),
        Value::Bool(true) => out.push(0x88),
        Value::Bool(false) => out.push(0x89),
        Value::Int(digits) => int(digits, out),
        Value::Float(number) => {
            out.push(b'G');
            out.extend(number.to_be_bytes());
        }
        Value::Text(text) => sized(text.as_bytes(), [0x8c, b'X', 0x8d], out),
        Value::Bytes(bytes) => sized(bytes, [b'C', b'B', 0x8e], out),
        Value::List(items) => {
            out.extend(b"](");
            items.iter().for_each(|item| write(item, out));
            out.push(b'e');
        }
        Value::Tuple(items) => {
            out.push(b'(');
            items.iter().for_each(|item| write(item, out));
            out.push(b't');
        }
        Value::Dict(entries) => {
            out.extend(b"}(");
            for (key, value) in entries {
                write(key, out);
                write(value, out);
            }
            out.push(b'u');
        }
    }
}

fn int(digits: &str, out: &mut Vec<u8>) {
    if let Ok(number) = digits.parse::<i32>() {
        out.push(b'J');
        out.extend(number.to_le_bytes());
    } else {
        // The oldest way to write an integer is of any length, and still read.
        out.push(b'L');
        out.extend(digits.as_bytes());
        out.extend(b"L\n");
    }
}

/// Bytes after one of three codes: for a length of one byte, of four and of eight.
fn sized(bytes: &[u8], codes: [u8; 3], out: &mut Vec<u8>) {
    let len = bytes.len();
    if let Ok(len) = u8::try_from(len) {
        out.extend([codes[0], len]);
    } else if let Ok(len) = u32::try_from(len) {
        out.push(codes[1]);
        out.extend(len.to_le_bytes());
    } else {
        out.push(codes[2]);
        out.extend((len as u64).to_le_bytes());
    }
    out.extend(bytes);
}
