//! Reads pickles without running them. Source: `pickletools` of Python 3.
//!
//! Every operation is bounded by the bytes that it stands for, and the finished value by [`SIZE_MAX`]: a pickle can
//! name one part of itself very often. What only protocol 0 has is not known here: RQ always takes the highest.

use std::collections::HashMap;

use super::{DEPTH_MAX, Value};

/// Size of a value at the most: the bytes of its texts, and [`PART`] for each part.
const SIZE_MAX: usize = 32 << 20;

/// What each part of a value counts for at least.
const PART: usize = 16;

/// Bytes of an integer whose digits are worked out.
const INT_LEN_MAX: usize = 128;

/// The value that a pickle makes; `None` when it is torn, of an unknown kind, or too large.
pub(in crate::broker::rq) fn unpickle(bytes: &[u8]) -> Option<Value> {
    let mut machine = Machine {
        rest: bytes,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    while machine.step()? {}
    let top = machine.pop()?;
    let mut budget = SIZE_MAX;
    machine.value(top, 0, &mut budget)
}

/// A part under construction; others are named by their place, since one part may stand in several.
enum Node {
    Plain(Value),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Dict(Vec<usize>),
}

struct Machine<'p> {
    rest: &'p [u8],
    nodes: Vec<Node>,
    stack: Vec<usize>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

impl<'p> Machine<'p> {
    /// Carries out one operation; whether there is another one.
    fn step(&mut self) -> Option<bool> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return Some(false),
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => self.stack.push(*self.stack.last()?),
            b'N' => self.plain(Value::None),
            0x88 => self.plain(Value::Bool(true)),
            0x89 => self.plain(Value::Bool(false)),
            b'G' => {
                let number = f64::from_be_bytes(self.take(8)?.try_into().ok()?);
                self.plain(Value::Float(number));
            }
            b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b => self.int(code)?,
            0x8c | b'X' | 0x8d => {
                let text = self.sized(match code {
                    0x8c => 1,
                    b'X' => 4,
                    _ => 8,
                })?;
                self.plain(Value::Text(String::from_utf8_lossy(text).into_owned()));
            }
            b'C' | b'B' | 0x8e | 0x96 => {
                let bytes = self.sized(match code {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                self.plain(Value::Bytes(bytes.to_vec()));
            }
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.remember(code)?,
            b'c' | b'R' | b'b' | 0x81 | 0x92 | 0x93 => self.object(code)?,
            _ => self.container(code)?,
        }
        Some(true)
    }

    fn int(&mut self, code: u8) -> Option<()> {
        let digits = match code {
            b'J' => i32::from_le_bytes(self.take(4)?.try_into().ok()?).to_string(),
            b'K' => self.take(1)?[0].to_string(),
            b'M' => u16::from_le_bytes(self.take(2)?.try_into().ok()?).to_string(),
            0x8a | 0x8b => {
                let bytes = self.sized(if code == 0x8a { 1 } else { 4 })?;
                decimal(bytes)?
            }
            _ => {
                let line = std::str::from_utf8(self.line()?).ok()?;
                let digits = line.strip_suffix('L').unwrap_or(line);
                let unsigned = digits.strip_prefix('-').unwrap_or(digits);
                let all_digits = !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit());
                all_digits.then(|| digits.to_owned())?
            }
        };
        self.plain(Value::Int(digits));
        Some(())
    }

    fn remember(&mut self, code: u8) -> Option<()> {
        let index = match code {
            0x94 => self.memo.len() as u64,
            b'q' | b'h' => u64::from(self.take(1)?[0]),
            _ => u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
        };
        if matches!(code, b'h' | b'j') {
            self.stack.push(*self.memo.get(&index)?);
        } else {
            self.memo.insert(index, *self.stack.last()?);
        }
        Some(())
    }

    fn container(&mut self, code: u8) -> Option<()> {
        match code {
            b']' | 0x8f => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b't' | 0x85..=0x87 => {
                let items = match code {
                    b't' => self.since_mark()?,
                    code => self.last(usize::from(code - 0x84))?,
                };
                self.push(Node::Tuple(items));
            }
            b'l' | 0x91 => {
                let items = self.since_mark()?;
                self.push(Node::List(items));
            }
            b'd' => {
                let items = self.since_mark()?;
                self.push(Node::Dict(items));
            }
            b'a' | b's' | b'e' | b'u' | 0x90 => {
                let items = match code {
                    b'a' => self.last(1)?,
                    b's' => self.last(2)?,
                    _ => self.since_mark()?,
                };
                let top = *self.stack.last()?;
                match self.nodes.get_mut(top)? {
                    Node::List(held) | Node::Dict(held) => held.extend(items),
                    // An object that is filled after it was made.
                    Node::Plain(Value::Object(_)) => {}
                    Node::Plain(_) | Node::Tuple(_) => return None,
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// What Python would make by a call is known by the name of what is called.
    fn object(&mut self, code: u8) -> Option<()> {
        let name = match code {
            b'c' => {
                let module = String::from_utf8_lossy(self.line()?).into_owned();
                format!("{module}.{}", String::from_utf8_lossy(self.line()?))
            }
            0x93 => {
                let names = self.last(2)?;
                let text = |at: usize| match &self.nodes[names[at]] {
                    Node::Plain(Value::Text(text)) => Some(text.as_str()),
                    _ => None,
                };
                format!("{}.{}", text(0)?, text(1)?)
            }
            // Its state, which only it understands.
            b'b' => return self.pop().map(drop),
            _ => {
                let parts = self.last(if code == 0x92 { 3 } else { 2 })?;
                match &self.nodes[parts[0]] {
                    Node::Plain(Value::Object(name)) => name.clone(),
                    _ => return None,
                }
            }
        };
        self.plain(Value::Object(name));
        Some(())
    }

    fn take(&mut self, len: usize) -> Option<&'p [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// Bytes after their length, which has so many bytes itself.
    fn sized(&mut self, width: usize) -> Option<&'p [u8]> {
        let mut len = [0; 8];
        len[..width].copy_from_slice(self.take(width)?);
        self.take(usize::try_from(u64::from_le_bytes(len)).ok()?)
    }

    fn line(&mut self) -> Option<&'p [u8]> {
        let len = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = self.take(len);
        self.take(1)?;
        line
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn plain(&mut self, value: Value) {
        self.push(Node::Plain(value));
    }

    fn pop(&mut self) -> Option<usize> {
        self.stack.pop()
    }

    fn last(&mut self, count: usize) -> Option<Vec<usize>> {
        let at = self.stack.len().checked_sub(count)?;
        Some(self.stack.split_off(at))
    }

    fn since_mark(&mut self) -> Option<Vec<usize>> {
        let at = self.marks.pop()?;
        (at <= self.stack.len()).then(|| self.stack.split_off(at))
    }

    /// The finished part, with all that stands in it.
    fn value(&self, at: usize, depth: usize, budget: &mut usize) -> Option<Value> {
        // What holds itself ends here, too.
        let size = match &self.nodes[at] {
            Node::Plain(Value::Text(text) | Value::Object(text) | Value::Int(text)) => text.len(),
            Node::Plain(Value::Bytes(bytes)) => bytes.len(),
            _ => 0,
        };
        *budget = budget.checked_sub(PART + size).filter(|_| depth <= DEPTH_MAX)?;
        let mut values = |items: &[usize]| -> Option<Vec<Value>> {
            items
                .iter()
                .map(|item| self.value(*item, depth + 1, budget))
                .collect()
        };
        Some(match &self.nodes[at] {
            Node::Plain(value) => value.clone(),
            Node::List(items) => Value::List(values(items)?),
            Node::Tuple(items) => Value::Tuple(values(items)?),
            Node::Dict(items) => {
                let mut parts = values(items)?.into_iter();
                let mut entries = Vec::new();
                while let Some(key) = parts.next() {
                    entries.push((key, parts.next()?));
                }
                Value::Dict(entries)
            }
        })
    }
}

/// The digits of an integer in two's complement, its lowest byte first.
fn decimal(bytes: &[u8]) -> Option<String> {
    let negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    if bytes.len() > INT_LEN_MAX {
        return None;
    }
    let mut magnitude: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in &mut magnitude {
            let (sum, more) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (sum, more);
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0u16;
        for byte in magnitude.iter_mut().rev() {
            let part = rest * 256 + u16::from(*byte);
            *byte = (part / 10) as u8;
            rest = part % 10;
        }
        digits.push(char::from(b'0' + rest as u8));
    }
    if digits.is_empty() {
        digits.push('0');
    }
    if negative {
        digits.push('-');
    }
    Some(digits.into_iter().rev().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{from_json, pickle, repr};
    use super::*;

    #[test]
    fn what_we_write_we_read() {
        let text = r#"[null, true, -1, 300, 5000000000, -99999999999999999999, 0.5, "é", {"a": [{}, []]}]"#;
        let value = Value::Tuple(vec![
            from_json(text.as_bytes()).unwrap(),
            Value::Bytes(vec![1; 300]),
        ]);
        assert_eq!(unpickle(&pickle(&value)), Some(value));
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    /// As Python 3.11 wrote them: `pickle.dumps(VALUE, PROTOCOL).hex()`.
    #[test]
    fn what_python_writes_is_read() {
        for (hex, shown) in [
            ("80054b072e", "7"),
            ("80059508000000000000008a0500f2052a012e", "5000000000"),
            ("80049508000000000000008a05000efad5fe2e", "-5000000000"),
            ("80024a80ffffff2e", "-128"),
            (
                "8005950c000000000000008a090000000000000000402e",
                "1180591620717411303424",
            ),
            ("80028a090000000000000000c02e", "-1180591620717411303424"),
            (
                "8005952300000000000000284b018c0161945d94284740040000000000007d948c016b944e73654301789474942e",
                "(1, 'a', [2.5, {'k': None}], b'x')",
            ),
            ("80049507000000000000008f94284b01902e", "[1]"),
            ("80035d7100284b015d71014b02616801652e", "[1, [2], [2]]"),
        ] {
            assert_eq!(
                unpickle(&bytes(hex)).as_ref().map(repr).as_deref(),
                Some(shown),
                "{hex}"
            );
        }
    }

    #[test]
    fn of_an_object_its_class_is_known() {
        for (hex, shown) in [
            (
                "80059520000000000000008c086461746574696d65948c0464617465949394430407ea0b1594859452942e",
                "<datetime.date>",
            ),
            (
                "80059529000000000000008c0b636f6c6c656374696f6e73948c0b4f726465726564446963749493942952948c0161944b01732e",
                "<collections.OrderedDict>",
            ),
            (
                "80027d7100580200000061747101636461746574696d650a646174650a7102635f636f646563730a656e636f64650a710358\
                 0500000007c3aa0b15710458060000006c6174696e317105867106527107857108527109732e",
                "{'at': <datetime.date>}",
            ),
        ] {
            assert_eq!(
                unpickle(&bytes(hex)).as_ref().map(repr).as_deref(),
                Some(shown),
                "{hex}"
            );
        }
    }

    #[test]
    fn a_value_that_holds_itself_or_too_much_is_refused() {
        let itself = "80059506000000000000005d946800612e";
        assert_eq!(unpickle(&bytes(itself)), None);
        let mut bomb = b"\x80\x02K\x01".to_vec();
        for index in 0..60 {
            bomb.extend([b'q', index, b'h', index, 0x86]);
        }
        bomb.push(b'.');
        assert_eq!(unpickle(&bomb), None);
        assert_eq!(unpickle(b"\x80\x05]"), None, "torn");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpickle(&bytes);
        }
    }
}
