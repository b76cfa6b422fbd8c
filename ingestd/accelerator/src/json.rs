//! Which events are certainly valid interactions, judged from their bytes. No Python here.
//!
//! A strict walk over the JSON text (RFC 8259) that builds nothing. It says yes only where the definition
//! (`ingestd/schemas/interaction.py`) cannot say no; everything else, valid or not, it leaves to Python.

use std::str;

use memchr::memchr;

/// The fields of the deduplication key, without escapes and in ASCII, so that these bytes are their text.
#[derive(Clone, Copy)]
pub struct KeyFields<'a> {
    pub interaction: &'a [u8],
    pub kind: &'a [u8],
    pub time: &'a [u8],
}

/// No library has trouble with a number of so many characters.
const MAX_NUMBER: usize = 300;

/// Says which events are certainly valid. `max_depth`: of arrays and objects within each other.
///
/// Events of one producer are alike but for their values. So what stands between the values of one that was accepted
/// is remembered, its shape, and of the next one it is only compared: with the same text between valid values of the
/// same kinds it is the same JSON. What has no known shape is walked through.
pub struct Reader {
    max_depth: usize,
    /// Those that were met last come first.
    shapes: Vec<Shape>,
    /// Events in a row of which none had a known shape.
    misses: usize,
    values: Vec<Value>,
}

const MOST_SHAPES: usize = 4;

/// Then the shapes differ so much that it is not worth while to look for one.
const MOST_MISSES: usize = 16;

/// A value that may be another in the next event, and from where to where it stands.
#[derive(Clone, Copy)]
struct Value {
    kind: Kind,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    EventType,
    EventTime,
    InteractionId,
    Action,
    Version,
    /// A string.
    Text,
    /// A string, a number, true, false or null.
    Scalar,
}

/// The text of an event without its values.
struct Shape {
    text: Vec<u8>,
    /// The values, and how much of the text stands before each.
    values: Vec<(usize, Kind)>,
}

impl Shape {
    fn of(event: &[u8], start: usize, values: &[Value]) -> Self {
        let mut shape = Self { text: Vec::with_capacity(event.len() - start), values: Vec::new() };
        let mut at = start;
        for value in values {
            shape.text.extend_from_slice(&event[at..value.start]);
            shape.values.push((value.start - at, value.kind));
            at = value.end;
        }
        shape.text.extend_from_slice(&event[at..]);
        shape
    }
}

impl Reader {
    pub fn new(max_depth: usize) -> Self {
        Self { max_depth, shapes: Vec::new(), misses: 0, values: Vec::new() }
    }

    /// The key of an event that is certainly valid: the bytes from `start` to `end` of `around`.
    pub fn accept<'a>(&mut self, around: &'a [u8], start: usize, end: usize) -> Option<KeyFields<'a>> {
        let text = &around[..end];
        let walk = |values| Walk { around, text, at: start, max_depth: self.max_depth, values };
        let looks = self.misses < MOST_MISSES;
        if looks {
            for number in 0..self.shapes.len() {
                if let Some(fields) = walk(None).follow(&self.shapes[number]) {
                    self.shapes.swap(0, number);
                    self.misses = 0;
                    return Some(fields);
                }
            }
        }
        self.values.clear();
        let fields = walk(looks.then_some(&mut self.values)).event()?;
        if looks {
            self.misses += 1;
            self.shapes.truncate(MOST_SHAPES - 1);
            self.shapes.insert(0, Shape::of(text, start, &self.values));
        }
        Some(fields)
    }
}

/// The members of an interaction that are judged, in the order in which their faults are told.
pub const EVENT_TYPE: usize = 0;
pub const EVENT_TIME: usize = 1;
pub const INTERACTION_ID: usize = 2;
pub const ROUTING: usize = 3;
pub const QUEUE_ID: usize = 4;
pub const SKILL: usize = 5;
pub const ACTION: usize = 6;
pub const VERSION: usize = 7;
const MEMBERS: usize = 8;

/// A member of an event that may be invalid.
#[derive(Clone, Copy, Default)]
struct Member {
    start: usize,
    end: usize,
    /// Certainly as it has to be.
    valid: bool,
}

/// What may be wrong with an event that certainly is a JSON object: members that are not certainly valid, with their
/// value; None: it is not there. `key`: if all its fields are plain strings, whether they are valid or not.
pub struct Doubts<'a> {
    pub members: Vec<(usize, Option<&'a [u8]>)>,
    pub key: Option<KeyFields<'a>>,
}

impl Doubts<'_> {
    /// Whether a field of the key certainly is not there, or null.
    pub fn has_no_key(&self) -> bool {
        let is_of_key = |number: usize| [EVENT_TYPE, EVENT_TIME, INTERACTION_ID].contains(&number);
        self.members.iter().any(|&(number, value)| is_of_key(number) && value.is_none_or(|text| text == b"null"))
    }
}

/// What is certain of an event that is refused, or may be.
pub enum Fault<'a> {
    Doubts(Doubts<'a>),
    /// An object but for strings that are not UTF-8: where the first byte is, that byte, and the key as of `Doubts`.
    NotUtf8(usize, u8, Option<KeyFields<'a>>),
    /// An object that ends before it is closed.
    Ends,
}

/// None: nothing is certain. Looked at without any shape: such events are few.
pub fn fault(event: &[u8], max_depth: usize) -> Option<Fault<'_>> {
    let Err(error) = str::from_utf8(event) else {
        return match known_members(event, max_depth) {
            Ok(found) => Some(Fault::Doubts(doubts(event, &found))),
            Err(at) => ends(event, at),
        };
    };
    let first = error.valid_up_to();
    match known_members(&readable(event, first), max_depth) {
        Ok(found) => Some(Fault::NotUtf8(first, event[first], doubts(event, &found).key)),
        Err(at) => ends(event, at),
    }
}

/// The event with a DEL for each byte that is not UTF-8, from the `first` on: JSON or not as it was.
fn readable(event: &[u8], first: usize) -> Vec<u8> {
    let (mut text, mut at) = (event.to_vec(), first);
    while at < text.len() {
        text[at] = 0x7f;
        at = match str::from_utf8(&text[at..]) {
            Ok(_) => break,
            Err(error) => at + error.valid_up_to(),
        };
    }
    text
}

/// Or how far it could be read.
fn known_members(event: &[u8], max_depth: usize) -> Result<[Option<Member>; MEMBERS], usize> {
    let mut found = [None; MEMBERS];
    let mut walk = Walk { around: event, text: event, at: 0, max_depth, values: None };
    walk.known_members(&mut found).map_or(Err(walk.at), |()| Ok(found))
}

/// Of what could be read so far, to its end or not. Of half an escape, or of half a number, decoders say more.
fn ends(event: &[u8], at: usize) -> Option<Fault<'_>> {
    let in_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let before = event.iter().rev().position(|byte| !in_number(byte))?;
    let is_number = before > 0 && b":,[ \t\r\n".contains(&event[event.len() - 1 - before]);
    let is_cut = at >= event.len() && !is_number && memchr(b'\\', event).is_none();
    (is_cut && event.starts_with(b"{")).then_some(Fault::Ends)
}

fn doubts<'a>(text: &'a [u8], found: &[Option<Member>; MEMBERS]) -> Doubts<'a> {
    let plain = |number: usize| {
        let member: Member = found[number]?;
        let value = text[member.start..member.end].strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let is_plain = |&byte: &u8| (b' '..0x7f).contains(&byte) && byte != b'\\';
        (!value.is_empty() && value.iter().all(is_plain)).then_some(value)
    };
    let key = match (plain(INTERACTION_ID), plain(EVENT_TYPE), plain(EVENT_TIME)) {
        (Some(interaction), Some(kind), Some(time)) => Some(KeyFields { interaction, kind, time }),
        _ => None,
    };
    let of_routing = QUEUE_ID..=ACTION;
    let members = (0..MEMBERS)
        .filter(|number| found[ROUTING].is_some() || !of_routing.contains(number))
        .filter_map(|number| match found[number] {
            Some(member) if member.valid => None,
            Some(member) => Some((number, Some(&text[member.start..member.end]))),
            None => Some((number, None)),
        });
    Doubts { members: members.collect(), key }
}

struct Walk<'a, 'v> {
    /// What may be read, so that looking at whole blocks needs no care at the end of an event.
    around: &'a [u8],
    /// What counts.
    text: &'a [u8],
    at: usize,
    max_depth: usize,
    /// Where the values are, if anybody wants to know.
    values: Option<&'v mut Vec<Value>>,
}

impl<'a> Walk<'a, '_> {
    // --- what an interaction is ---

    fn event(&mut self) -> Option<KeyFields<'a>> {
        self.blanks();
        let fields = self.interaction()?;
        self.blanks();
        (self.at == self.text.len()).then_some(fields)
    }

    /// An event of this shape.
    fn follow(&mut self, shape: &Shape) -> Option<KeyFields<'a>> {
        let (mut kind, mut time, mut interaction) = (None, None, None);
        let mut rest = &shape.text[..];
        for &(length, value) in &shape.values {
            let (before, behind) = rest.split_at(length);
            self.literal(before)?;
            rest = behind;
            match value {
                Kind::EventType => kind = Some(self.name()?),
                Kind::EventTime => time = Some(self.timestamp()?),
                Kind::InteractionId => interaction = Some(self.name()?),
                Kind::Action => self.action()?,
                Kind::Version => self.version()?,
                Kind::Text => self.text()?,
                Kind::Scalar => self.scalar()?,
            }
        }
        self.literal(rest)?;
        if self.at < self.text.len() {
            return None;
        }
        Some(KeyFields { interaction: interaction?, kind: kind?, time: time? })
    }

    /// A value that is of this kind in all events of a shape.
    fn noted<T>(&mut self, kind: Kind, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let start = self.at;
        let found = read(self)?;
        let end = self.at;
        if let Some(values) = &mut self.values {
            values.push(Value { kind, start, end });
        }
        Some(found)
    }

    fn interaction(&mut self) -> Option<KeyFields<'a>> {
        let (mut kind, mut time, mut interaction) = (None, None, None);
        let (mut routing, mut version, mut attributes) = (false, false, false);
        self.members(1, |walk, name| {
            match name {
                b"eventType" => once(&mut kind, walk.noted(Kind::EventType, Self::name)?),
                b"eventTime" => once(&mut time, walk.noted(Kind::EventTime, Self::timestamp)?),
                b"interactionId" => once(&mut interaction, walk.noted(Kind::InteractionId, Self::name)?),
                b"routingMetadata" => first(&mut routing).and_then(|()| walk.routing()),
                b"schemaVersion" => first(&mut version).and_then(|()| walk.noted(Kind::Version, Self::version)),
                b"attributes" => first(&mut attributes).and_then(|()| walk.object(2)),
                _ => walk.value(2),
            }
        })?;
        if !(routing && version) {
            return None;
        }
        Some(KeyFields { interaction: interaction?, kind: kind?, time: time? })
    }

    /// Of an event that is an object with each of them once at most.
    fn known_members(&mut self, found: &mut [Option<Member>; MEMBERS]) -> Option<()> {
        self.blanks();
        let mut attributes = false;
        self.members(1, |walk, name| match name {
            b"eventType" => walk.judged(2, &mut found[EVENT_TYPE], |walk| walk.name().map(|_| ())),
            b"eventTime" => walk.judged(2, &mut found[EVENT_TIME], |walk| walk.timestamp().map(|_| ())),
            b"interactionId" => walk.judged(2, &mut found[INTERACTION_ID], |walk| walk.name().map(|_| ())),
            b"schemaVersion" => walk.judged(2, &mut found[VERSION], Self::version),
            b"attributes" => first(&mut attributes).and_then(|()| walk.object(2)),
            b"routingMetadata" => {
                let (routing, parts) = found.split_at_mut(QUEUE_ID);
                let whole = Member { valid: true, ..Member::default() };
                if routing[ROUTING].replace(whole).is_some() {
                    return None;
                }
                walk.members(2, |walk, name| match name {
                    b"queueId" => walk.judged(3, &mut parts[0], Self::text),
                    b"skill" => walk.judged(3, &mut parts[SKILL - QUEUE_ID], Self::text),
                    b"actionType" => walk.judged(3, &mut parts[ACTION - QUEUE_ID], Self::action),
                    _ => walk.value(3),
                })
            }
            _ => walk.value(2),
        })?;
        self.blanks();
        (self.at == self.text.len()).then_some(())
    }

    /// A value, and whether `valid` accepts it.
    fn judged(
        &mut self,
        depth: usize,
        place: &mut Option<Member>,
        valid: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<()> {
        let start = self.at;
        let is_valid = valid(self).is_some();
        if !is_valid {
            self.at = start;
            self.value(depth)?;
        }
        let member = Member { start, end: self.at, valid: is_valid };
        place.replace(member).is_none().then_some(())
    }

    fn routing(&mut self) -> Option<()> {
        let (mut queue, mut skill, mut action) = (false, false, false);
        self.members(2, |walk, name| match name {
            b"queueId" => first(&mut queue).and_then(|()| walk.noted(Kind::Text, Self::text)),
            b"skill" => first(&mut skill).and_then(|()| walk.noted(Kind::Text, Self::text)),
            b"actionType" => first(&mut action).and_then(|()| walk.noted(Kind::Action, Self::action)),
            _ => walk.value(3),
        })?;
        (queue && skill && action).then_some(())
    }

    fn name(&mut self) -> Option<&'a [u8]> {
        let text = self.plain_string()?;
        let highest = text.iter().fold(0, |most: u8, &byte| most.max(byte)); // of all at once, and DEL is none
        (!text.is_empty() && highest < 0x7f).then_some(text)
    }

    fn timestamp(&mut self) -> Option<&'a [u8]> {
        let text = self.plain_string()?;
        is_timestamp(text).then_some(text)
    }

    fn action(&mut self) -> Option<()> {
        match self.plain_string()? {
            b"ANSWER" | b"TRANSFER" | b"DISCONNECT" | b"QUEUE" | b"REQUEUE" => Some(()),
            _ => None,
        }
    }

    fn version(&mut self) -> Option<()> {
        let start = self.at;
        self.number()?;
        matches!(&self.text[start..self.at], b"1" | b"2" | b"3").then_some(())
    }

    fn text(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.string().map(|_| ())
    }

    /// A string without escapes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        let plain = self.string()?;
        plain.then(|| &self.text[start..self.at - 1])
    }

    // --- what JSON is ---

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            _ => self.noted(Kind::Scalar, Self::scalar),
        }
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.string().map(|_| ())
            }
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.open(b'{', depth)?;
        if self.closes(b'}') {
            return Some(());
        }
        loop {
            self.text()?;
            self.colon()?;
            self.value(depth + 1)?;
            if self.ends(b'}')? {
                return Some(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.open(b'[', depth)?;
        if self.closes(b']') {
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            if self.ends(b']')? {
                return Some(());
            }
        }
    }

    /// An object whose members `member` reads; none of their names has an escape: it might be another's.
    fn members(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>,
    ) -> Option<()> {
        self.open(b'{', depth)?;
        if self.closes(b'}') {
            return Some(());
        }
        loop {
            let name = self.plain_string()?;
            self.colon()?;
            member(self, name)?;
            if self.ends(b'}')? {
                return Some(());
            }
        }
    }

    fn open(&mut self, bracket: u8, depth: usize) -> Option<()> {
        if depth > self.max_depth {
            return None;
        }
        self.expect(bracket)?;
        self.blanks();
        Some(())
    }

    fn closes(&mut self, bracket: u8) -> bool {
        let found = self.peek() == Some(bracket);
        self.at += usize::from(found);
        found
    }

    fn colon(&mut self) -> Option<()> {
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        Some(())
    }

    /// Whether a container ends behind a value; else another value follows.
    fn ends(&mut self, bracket: u8) -> Option<bool> {
        self.blanks();
        if self.closes(bracket) {
            return Some(true);
        }
        self.expect(b',')?;
        self.blanks();
        Some(false)
    }

    /// The rest of a string behind its quote. False: it has escapes.
    #[inline(always)]
    fn string(&mut self) -> Option<bool> {
        if let Some(block) = self.around.get(self.at..).unwrap_or_default().first_chunk() {
            let (special, high) = marks(block);
            let end = special.trailing_zeros() as usize;
            if special != 0 && high & (special ^ special.wrapping_sub(1)) == 0 && block[end & (BLOCK - 1)] == b'"' {
                self.at += end + 1;
                return (self.at <= self.text.len()).then_some(true);
            }
        }
        self.any_string()
    }

    /// As `string`, also of long ones.
    #[inline(never)]
    fn any_string(&mut self) -> Option<bool> {
        let (start, mut plain, mut ascii) = (self.at, true, true);
        loop {
            ascii &= self.to_special();
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => {
                    plain = false;
                    self.escape()?;
                }
                _ => return None, // a control character
            }
        }
        (ascii || str::from_utf8(&self.text[start..self.at]).is_ok()).then_some(plain)
    }

    /// Go on to what ends a string or is special in one. Whether all before it is ASCII.
    fn to_special(&mut self) -> bool {
        let mut beyond = 0;
        loop {
            let rest = self.around.get(self.at..).unwrap_or_default();
            let (special, high) = match rest.first_chunk() {
                Some(block) => marks(block),
                None => last_marks(rest),
            };
            if special != 0 {
                self.at += special.trailing_zeros() as usize;
                return beyond | (high & (special ^ special.wrapping_sub(1))) == 0;
            }
            beyond |= high;
            self.at += BLOCK;
        }
    }

    fn escape(&mut self) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.unit()? {
                0xd800..=0xdbff => {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    matches!(self.unit()?, 0xdc00..=0xdfff).then_some(())
                }
                0xdc00..=0xdfff => None,
                _ => Some(()),
            },
            _ => None,
        }
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?))
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        (self.at - start <= MAX_NUMBER).then_some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        self.text.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

/// Of two members of one name readers take different ones.
fn once<'a>(place: &mut Option<&'a [u8]>, found: &'a [u8]) -> Option<()> {
    place.replace(found).is_none().then_some(())
}

fn first(seen: &mut bool) -> Option<()> {
    (!std::mem::replace(seen, true)).then_some(())
}

/// Bytes looked at together.
const BLOCK: usize = 32;

/// (those that end a string or are special in one: quotes, backslashes, control characters; those beyond ASCII),
/// a bit for each byte.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn marks(block: &[u8; BLOCK]) -> (u32, u32) {
    // SAFETY: every processor of this architecture has SSE2, and nothing else is asked of it.
    unsafe { marks_sse2(block) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn marks_sse2(block: &[u8; BLOCK]) -> (u32, u32) {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let (words, _) = block.as_chunks::<8>();
    let word = |index: usize| i64::from_le_bytes(words[index]);
    let (mut special, mut beyond) = (0, 0);
    for half in [0, 1] {
        let bytes: __m128i = _mm_set_epi64x(word(half * 2 + 1), word(half * 2));
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        let either = _mm_or_si128(_mm_or_si128(quote, slash), control);
        special |= (_mm_movemask_epi8(either) as u32) << (half * 16);
        beyond |= (_mm_movemask_epi8(bytes) as u32) << (half * 16);
    }
    (special, beyond)
}

#[cfg(not(target_arch = "x86_64"))]
fn marks(block: &[u8; BLOCK]) -> (u32, u32) {
    let (mut special, mut beyond) = (0, 0);
    for (index, &byte) in block.iter().enumerate() {
        special |= u32::from(byte == b'"' || byte == b'\\' || byte < 0x20) << index;
        beyond |= u32::from(byte >= 0x80) << index;
    }
    (special, beyond)
}

/// Of fewer bytes than a block: a zero marks their end.
#[cold]
#[inline(never)]
fn last_marks(rest: &[u8]) -> (u32, u32) {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    marks(&block)
}

/// RFC 3339 with a `T` and a `Z` or an offset, without leap seconds and the year 0.
fn is_timestamp(text: &[u8]) -> bool {
    let Some((head, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (digits(&head[..4]), digits(&head[5..7]), digits(&head[8..10]))
    else {
        return false;
    };
    let (Some(hour), Some(minute), Some(second)) =
        (digits(&head[11..13]), digits(&head[14..16]), digits(&head[17..19]))
    else {
        return false;
    };
    head[4] == b'-'
        && head[7] == b'-'
        && head[10] == b'T'
        && head[13] == b':'
        && head[16] == b':'
        && year > 0
        && (1..=12).contains(&month)
        && day >= 1
        && day <= days_of(year, month)
        && hour < 24
        && minute < 60
        && second < 60
        && is_zone(after_fraction(rest))
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + u32::from(digit - b'0'))
    })
}

fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Without the point and the digits behind it, one at least; a point alone is left where it is.
fn after_fraction(rest: &[u8]) -> &[u8] {
    match rest {
        [b'.', behind @ ..] => {
            let count = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if count == 0 { rest } else { &behind[count..] }
        }
        _ => rest,
    }
}

fn is_zone(text: &[u8]) -> bool {
    match text {
        [b'Z'] => true,
        [b'+' | b'-', hours @ .., b':', m1, m2] if hours.len() == 2 => {
            matches!((digits(hours), digits(&[*m1, *m2])), (Some(0..24), Some(0..60)))
        }
        _ => false,
    }
}
