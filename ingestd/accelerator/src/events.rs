//! Sequences of events and of their digests, which take the place of Python's lists of `bytes`.

use std::sync::{Arc, Mutex};

use memchr::memchr_iter;
use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySlice, PyString, PyTuple};

use crate::json::{Doubts, Fault, KeyFields, fault};
use crate::keys::{Keys, Part};
use crate::table::{Digest, NO_KEY, NO_SLOT, Places};

/// Bytes that were read together, and where events are in them.
pub struct Source {
    data: Py<PyBytes>,
    spans: Vec<(u32, u32)>,
}

#[derive(Clone)]
struct Run {
    source: Arc<Source>,
    first: usize,
    last: usize,
}

impl Run {
    fn spans(&self) -> &[(u32, u32)] {
        &self.source.spans[self.first..self.last]
    }
}

/// An immutable sequence of `bytes` objects that are made when they are asked for.
#[pyclass(frozen, sequence, module = "ingestd_accelerator")]
pub struct Events {
    runs: Vec<Run>,
    /// How many events there are up to the end of each run.
    ends: Vec<usize>,
    /// What `interaction_keys` will be asked for, and under which limits.
    ahead: Mutex<Option<(Limits, Keys)>>,
}

/// (Number of a member, its value), and the key.
type Doubted<'py> = (Vec<(usize, Option<Bound<'py, PyBytes>>)>, Option<Bound<'py, PyString>>);

/// Kind of a fault, what belongs to it, and the key.
type Faulty<'py> = (usize, Bound<'py, PyAny>, Option<Bound<'py, PyString>>);

/// `max_depth` and `max_bytes` of an event.
type Limits = (usize, usize);

impl Events {
    fn of_runs(runs: Vec<Run>) -> Self {
        let runs: Vec<Run> = runs.into_iter().filter(|run| run.last > run.first).collect();
        let ends = runs
            .iter()
            .scan(0, |end, run| {
                *end += run.last - run.first;
                Some(*end)
            })
            .collect();
        Self { runs, ends, ahead: Mutex::default() }
    }

    fn of_spans(data: Py<PyBytes>, spans: Vec<(u32, u32)>) -> Self {
        let last = spans.len();
        Self::of_runs(vec![Run { source: Arc::new(Source { data, spans }), first: 0, last }])
    }

    fn count(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn place(&self, index: usize) -> (&Run, usize) {
        let number = self.ends.partition_point(|&end| end <= index);
        let before = if number == 0 { 0 } else { self.ends[number - 1] };
        let run = &self.runs[number];
        (run, run.first + index - before)
    }

    fn get<'py>(&self, py: Python<'py>, index: usize) -> Bound<'py, PyBytes> {
        let (run, at) = self.place(index);
        let (start, end) = run.source.spans[at];
        PyBytes::new(py, &run.source.data.bind(py).as_bytes()[start as usize..end as usize])
    }

    fn slices<'a>(&'a self, py: Python<'a>) -> impl Iterator<Item = &'a [u8]> {
        self.runs.iter().flat_map(move |run| {
            let data = run.source.data.bind(py).as_bytes();
            run.spans().iter().map(move |&(start, end)| &data[start as usize..end as usize])
        })
    }

    fn list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, (0..self.count()).map(|index| self.get(py, index)).collect::<Vec<_>>())
    }

    fn between(&self, first: usize, last: usize) -> Self {
        let mut runs = Vec::new();
        let mut before = 0;
        for (run, &end) in self.runs.iter().zip(&self.ends) {
            if end > first && before < last {
                let mut part = run.clone();
                part.first += first.saturating_sub(before);
                part.last -= end.saturating_sub(last);
                runs.push(part);
            }
            before = end;
        }
        Self::of_runs(runs)
    }

    /// Those for which `keep` is true.
    fn filtered(&self, py: Python<'_>, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut index = 0;
        let runs = self.runs.iter().map(|run| {
            let spans: Vec<(u32, u32)> = run
                .spans()
                .iter()
                .filter(|_| {
                    index += 1;
                    keep(index - 1)
                })
                .copied()
                .collect();
            let last = spans.len();
            let source = Source { data: run.source.data.clone_ref(py), spans };
            Run { source: Arc::new(source), first: 0, last }
        });
        Self::of_runs(runs.collect())
    }
}

#[pymethods]
impl Events {
    /// Those of this list, in one piece of memory, with a newline between them.
    #[staticmethod]
    fn of(py: Python<'_>, events: Vec<Bound<'_, PyBytes>>) -> PyResult<Self> {
        let total = events.iter().map(|event| event.as_bytes().len() + 1).sum::<usize>();
        if u32::try_from(total).is_err() {
            return Err(PyValueError::new_err("more than 4 GiB at once"));
        }
        let mut spans = Vec::with_capacity(events.len());
        let data = PyBytes::new_with(py, total, |bytes| {
            let mut body = Body { bytes, at: 0 };
            for event in &events {
                let start = body.at as u32;
                body.add(event.as_bytes());
                spans.push((start, body.at as u32));
                body.add(b"\n");
            }
            Ok(())
        })?;
        Ok(Self::of_spans(data.unbind(), spans))
    }

    /// All events of several, one after the other.
    #[staticmethod]
    fn concat(parts: Vec<PyRef<'_, Events>>) -> Self {
        Self::of_runs(parts.iter().flat_map(|part| part.runs.iter().cloned()).collect())
    }

    fn __len__(&self) -> usize {
        self.count()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = index.cast::<PySlice>() {
            let found = slice.indices(self.count() as isize)?;
            if found.step != 1 {
                return self.list(py)?.as_any().get_item(index);
            }
            let (first, last) = (found.start as usize, found.stop.max(found.start) as usize);
            return Ok(Bound::new(py, self.between(first, last))?.into_any());
        }
        Ok(self.get(py, checked_index(index.extract()?, self.count())?).into_any())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.list(py)?.try_iter()?.into_any())
    }

    fn __richcmp__<'py>(
        &self,
        py: Python<'py>,
        other: &Bound<'py, PyAny>,
        how: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mine = self.list(py)?;
        match other.cast::<Events>() {
            Ok(events) => mine.rich_compare(events.get().list(py)?, how),
            Err(_) => mine.rich_compare(other, how),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Events({})", self.list(py)?.repr()?))
    }

    /// Bytes of all of them.
    #[getter]
    fn size_bytes(&self) -> usize {
        self.runs.iter().flat_map(Run::spans).map(|(start, end)| (end - start) as usize).sum()
    }

    /// Bytes of the longest.
    #[getter]
    fn longest_bytes(&self) -> usize {
        self.runs.iter().flat_map(Run::spans).map(|(start, end)| (end - start) as usize).max().unwrap_or(0)
    }

    /// Where the event at this index begins in the bytes that it was read with.
    fn offset(&self, index: usize) -> PyResult<usize> {
        let index = checked_index(index as isize, self.count())?;
        let (run, at) = self.place(index);
        Ok(run.source.spans[at].0 as usize)
    }

    /// Those at these indices, which ascend.
    fn pick(&self, py: Python<'_>, indices: Vec<usize>) -> PyResult<Self> {
        ascending(&indices, self.count())?;
        let mut wanted = indices.into_iter().peekable();
        Ok(self.filtered(py, |index| wanted.next_if_eq(&index).is_some()))
    }

    /// Those that are not at these indices, which ascend.
    fn without(&self, py: Python<'_>, indices: Vec<usize>) -> PyResult<Self> {
        ascending(&indices, self.count())?;
        let mut gone = indices.into_iter().peekable();
        Ok(self.filtered(py, |index| gone.next_if_eq(&index).is_none()))
    }

    /// Lines without the carriage return at their end, and without those that are empty then.
    fn tidied(&self, py: Python<'_>) -> Self {
        let runs = self.runs.iter().map(|run| {
            let data = run.source.data.bind(py).as_bytes();
            let spans: Vec<(u32, u32)> = run
                .spans()
                .iter()
                .map(|&(start, end)| {
                    let returns = end > start && data[end as usize - 1] == b'\r';
                    (start, end - u32::from(returns))
                })
                .filter(|(start, end)| end > start)
                .collect();
            let last = spans.len();
            let source = Source { data: run.source.data.clone_ref(py), spans };
            Run { source: Arc::new(source), first: 0, last }
        });
        Self::of_runs(runs.collect())
    }

    /// Whether one of them has a carriage return at its end.
    fn has_returns(&self, py: Python<'_>) -> bool {
        self.runs.iter().any(|run| {
            let data = run.source.data.bind(py).as_bytes();
            run.spans().iter().any(|&(start, end)| end > start && data[end as usize - 1] == b'\r')
        })
    }

    /// Whether one of them has no bytes.
    fn has_empty(&self) -> bool {
        self.runs.iter().flat_map(Run::spans).any(|(start, end)| start == end)
    }

    /// How many of those from `first` on take at most `room` bytes, each with `separator` bytes, and how many.
    /// `most` at most.
    fn fit(&self, first: usize, room: isize, separator: usize, most: isize) -> (usize, usize) {
        let (mut index, mut count, mut taken) = (0, 0, 0);
        for run in &self.runs {
            let skipped = first.saturating_sub(index).min(run.last - run.first);
            index += run.last - run.first;
            for (start, end) in &run.spans()[skipped..] {
                let more = (end - start) as usize + separator;
                if (taken + more) as isize > room || count as isize >= most {
                    return (count, taken);
                }
                taken += more;
                count += 1;
            }
        }
        (count, taken)
    }

    /// `prefix + separator.join(self) + suffix`
    fn frame<'py>(
        &self,
        py: Python<'py>,
        prefix: &[u8],
        separator: &[u8],
        suffix: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let between = separator.len() * self.count().saturating_sub(1);
        let total = prefix.len() + self.size_bytes() + between + suffix.len();
        PyBytes::new_with(py, total, |body| {
            let mut body = Body { bytes: body, at: 0 };
            body.add(prefix);
            for (number, run) in self.runs.iter().enumerate() {
                if number > 0 {
                    body.add(separator);
                }
                body.join(run.source.data.bind(py).as_bytes(), run.spans(), separator);
            }
            body.add(suffix);
            Ok(())
        })
    }

    /// As msgpack writes a list of `bytes`.
    fn msgpack<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let count = self.count();
        let mut packed = Vec::with_capacity(self.size_bytes() + 5 * count + 5);
        match count {
            0..=15 => packed.push(0x90 | count as u8),
            16..=0xffff => {
                packed.push(0xdc);
                packed.extend_from_slice(&(count as u16).to_be_bytes());
            }
            _ => {
                packed.push(0xdd);
                packed.extend_from_slice(&(count as u32).to_be_bytes());
            }
        }
        for event in self.slices(py) {
            match event.len() {
                length @ 0..=0xff => packed.extend_from_slice(&[0xc4, length as u8]),
                length @ 0x100..=0xffff => {
                    packed.push(0xc5);
                    packed.extend_from_slice(&(length as u16).to_be_bytes());
                }
                length => {
                    packed.push(0xc6);
                    packed.extend_from_slice(&(length as u32).to_be_bytes());
                }
            }
            packed.extend_from_slice(event);
        }
        PyBytes::new(py, &packed)
    }

    /// The keys of those that are certainly valid interactions; None for the others, of which nothing is said.
    /// No event of more than `max_bytes` is looked at.
    fn interaction_keys(&self, py: Python<'_>, max_depth: usize, max_bytes: usize) -> Keys {
        match self.ahead.lock().ok().and_then(|mut made| made.take()) {
            Some((limits, keys)) if limits == (max_depth, max_bytes) => keys,
            _ => self.keys(py, (max_depth, max_bytes), None),
        }
    }

    /// What may be wrong with the events at these indices, and what their keys are: see `json::Doubts`. None where
    /// nothing is certain.
    fn doubts<'py>(
        &self,
        py: Python<'py>,
        indices: Vec<usize>,
        max_depth: usize,
        max_bytes: usize,
    ) -> PyResult<Vec<Option<Doubted<'py>>>> {
        self.each_fault(py, indices, (max_depth, max_bytes), |found| match found {
            Some(Fault::Doubts(found)) => Ok(Some((members_of(py, &found), key_of(py, found.key)))),
            _ => Ok(None),
        })
    }

    /// What is wrong with the events at these indices, or may be: its kind (see below), what belongs to it, and the
    /// key, which is empty where there certainly is none. None where nothing is certain.
    fn faults<'py>(
        &self,
        py: Python<'py>,
        indices: Vec<usize>,
        max_depth: usize,
        max_bytes: usize,
    ) -> PyResult<Vec<Option<Faulty<'py>>>> {
        let no_key = PyString::new(py, "");
        self.each_fault(py, indices, (max_depth, max_bytes), |found| {
            let Some(found) = found else { return Ok(None) };
            Ok(Some(match found {
                Fault::Doubts(found) => {
                    let is_short = found.members.iter().all(|(_, value)| value.is_none_or(|text| text.len() <= SHORT));
                    let members = PyTuple::new(py, members_of(py, &found))?.into_any();
                    let key = if found.has_no_key() { Some(no_key.clone()) } else { key_of(py, found.key) };
                    (if is_short { DOUBTS } else { LONG_DOUBTS }, members, key)
                }
                Fault::NotUtf8(at, byte, key) => {
                    (NOT_UTF8, (at, byte).into_pyobject(py)?.into_any(), key_of(py, key))
                }
                Fault::Ends => (ENDS, PyTuple::empty(py).into_any(), Some(no_key.clone())),
            }))
        })
    }

    /// Bytes of the event at this index.
    fn length(&self, index: usize) -> PyResult<usize> {
        let (run, at) = self.place(checked_index(index as isize, self.count())?);
        let (start, end) = run.source.spans[at];
        Ok((end - start) as usize)
    }

    /// Have these keys made now, and their digests, or those of a `part`: by a thread that waits for nothing else.
    #[pyo3(signature = (max_depth, max_bytes, secret, part = None))]
    fn look_ahead(
        &self,
        py: Python<'_>,
        max_depth: usize,
        max_bytes: usize,
        secret: &[u8],
        part: Option<(u32, u32)>,
    ) {
        let limits = (max_depth, max_bytes);
        let part = part.filter(|(_, count)| *count > 0);
        let keys = self.keys(py, limits, Some((secret, part)));
        if let Ok(mut made) = self.ahead.lock() {
            *made = Some((limits, keys));
        }
    }
}

/// Kinds of faults, as `ingestd/schemas/interaction.py` numbers them. Of short doubts no value has more bytes.
const DOUBTS: usize = 0;
const LONG_DOUBTS: usize = 1;
const NOT_UTF8: usize = 2;
const ENDS: usize = 3;
const SHORT: usize = 64;

fn members_of<'py>(py: Python<'py>, found: &Doubts<'_>) -> Vec<(usize, Option<Bound<'py, PyBytes>>)> {
    let members = found.members.iter();
    members.map(|&(number, value)| (number, value.map(|value| PyBytes::new(py, value)))).collect()
}

fn key_of<'py>(py: Python<'py>, key: Option<KeyFields<'_>>) -> Option<Bound<'py, PyString>> {
    let key = key?;
    let text = [key.interaction, b"\0", key.kind, b"\0", key.time].concat();
    PyString::from_bytes(py, &text).ok()
}

impl Events {
    /// What `tell` makes of the fault of each event at these indices; of longer ones than `max_bytes` none is known.
    fn each_fault<'py, T>(
        &self,
        py: Python<'py>,
        indices: Vec<usize>,
        (max_depth, max_bytes): Limits,
        tell: impl Fn(Option<Fault<'_>>) -> PyResult<T>,
    ) -> PyResult<Vec<T>> {
        let mut all = Vec::with_capacity(indices.len());
        for index in indices {
            let (run, at) = self.place(checked_index(index as isize, self.count())?);
            let (start, end) = run.source.spans[at];
            let event = &run.source.data.bind(py).as_bytes()[start as usize..end as usize];
            all.push(tell(if event.len() > max_bytes { None } else { fault(event, max_depth) })?);
        }
        Ok(all)
    }

    /// Without the interpreter's lock.
    fn keys(&self, py: Python<'_>, limits: Limits, hashed: Option<(&[u8], Option<Part>)>) -> Keys {
        let runs: Vec<(&[u8], &[(u32, u32)])> =
            self.runs.iter().map(|run| (run.source.data.bind(py).as_bytes(), run.spans())).collect();
        py.detach(|| {
            let mut keys = Keys::of_runs(&runs, limits.0, limits.1);
            if let Some((secret, part)) = hashed {
                keys.hash(secret, part);
            }
            keys
        })
    }
}

/// Bytes that are filled from their start.
struct Body<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Body<'_> {
    fn add(&mut self, text: &[u8]) {
        self.bytes[self.at..self.at + text.len()].copy_from_slice(text);
        self.at += text.len();
    }

    /// Events, with a separator between them. Those that have as many bytes between them in `data` as a separator
    /// has, nearly all, are copied together, and the separators are put in the place of these bytes.
    fn join(&mut self, data: &[u8], spans: &[(u32, u32)], separator: &[u8]) {
        let gap = separator.len() as u32;
        for (number, stretch) in spans.chunk_by(|one, next| next.0 == one.1 + gap).enumerate() {
            if number > 0 {
                self.add(separator);
            }
            let (first, last) = (stretch[0].0 as usize, stretch[stretch.len() - 1].1 as usize);
            let start = self.at;
            self.add(&data[first..last]);
            let copied = &mut self.bytes[start..self.at];
            for (_, end) in &stretch[..stretch.len() - 1] {
                let behind = *end as usize - first;
                copied[behind..behind + separator.len()].copy_from_slice(separator);
            }
        }
    }
}

/// The lines of `data` that end in a newline, without it, and what comes behind the last one.
#[pyfunction]
pub fn split_lines<'py>(data: &Bound<'py, PyBytes>) -> PyResult<(Events, Bound<'py, PyBytes>)> {
    let py = data.py();
    let text = data.as_bytes();
    if u32::try_from(text.len()).is_err() {
        return Err(PyValueError::new_err("more than 4 GiB at once"));
    }
    let mut start = 0;
    let spans: Vec<(u32, u32)> = memchr_iter(b'\n', text)
        .map(|end| {
            let span = (start, end as u32);
            start = end as u32 + 1;
            span
        })
        .collect();
    let rest = spans.last().map_or(0, |&(_, end)| end as usize + 1);
    let tail = PyBytes::new(py, &text[rest..]);
    Ok((Events::of_spans(data.clone().unbind(), spans), tail))
}

/// The lines of `data` without the white space of JSON around them, and without those that are blank.
#[pyfunction]
pub fn trimmed_lines(data: &Bound<'_, PyBytes>) -> PyResult<Events> {
    let text = data.as_bytes();
    if u32::try_from(text.len()).is_err() {
        return Err(PyValueError::new_err("more than 4 GiB at once"));
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let mut start = 0;
    let mut spans = Vec::new();
    for end in memchr_iter(b'\n', text).chain([text.len()]) {
        let line = &text[start..end];
        if let Some(before) = line.iter().position(|byte| !is_blank(byte)) {
            let behind = line.iter().rev().take_while(|byte| is_blank(byte)).count();
            spans.push(((start + before) as u32, (end - behind) as u32));
        }
        start = end + 1;
    }
    Ok(Events::of_spans(data.clone().unbind(), spans))
}

/// Digests of keys, parallel to events; None where there is no key.
#[pyclass(frozen, sequence, module = "ingestd_accelerator")]
pub struct Digests {
    pub all: Vec<Digest>,
    pub places: Places,
}

impl Digests {
    /// Some of them, in their order.
    fn some(&self, chosen: &Choice<'_>) -> Self {
        let all = chosen.of(&self.all);
        let slots = if self.places.slots.is_empty() { Vec::new() } else { chosen.of(&self.places.slots) };
        Self { all, places: Places { epoch: self.places.epoch, slots } }
    }

    fn get<'py>(&self, py: Python<'py>, index: usize) -> Bound<'py, PyAny> {
        match &self.all[index] {
            &NO_KEY => py.None().into_bound(py),
            digest => PyBytes::new(py, digest).into_any(),
        }
    }

    fn list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, (0..self.all.len()).map(|index| self.get(py, index)).collect::<Vec<_>>())
    }
}

#[pymethods]
impl Digests {
    #[staticmethod]
    fn concat(parts: Vec<PyRef<'_, Digests>>) -> Self {
        let count = parts.iter().map(|part| part.all.len()).sum();
        let (mut all, mut slots) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let epoch = parts.iter().map(|part| part.places.epoch).max().unwrap_or(0);
        for part in &parts {
            all.extend_from_slice(&part.all);
            if part.places.epoch == epoch {
                slots.extend_from_slice(&part.places.slots);
            }
            slots.resize(all.len(), NO_SLOT);
        }
        Self { all, places: Places { epoch, slots } }
    }

    fn __len__(&self) -> usize {
        self.all.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(slice) = index.cast::<PySlice>() {
            let found = slice.indices(self.all.len() as isize)?;
            if found.step != 1 {
                return self.list(py)?.as_any().get_item(index);
            }
            let (first, last) = (found.start as usize, found.stop.max(found.start) as usize);
            return Ok(Bound::new(py, self.some(&Choice::Between(first, last)))?.into_any());
        }
        Ok(self.get(py, checked_index(index.extract()?, self.all.len())?))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.list(py)?.try_iter()?.into_any())
    }

    fn __richcmp__<'py>(
        &self,
        py: Python<'py>,
        other: &Bound<'py, PyAny>,
        how: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mine = self.list(py)?;
        match other.cast::<Digests>() {
            Ok(digests) => mine.rich_compare(digests.get().list(py)?, how),
            Err(_) => mine.rich_compare(other, how),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Digests({})", self.list(py)?.repr()?))
    }

    fn pick(&self, indices: Vec<usize>) -> PyResult<Self> {
        ascending(&indices, self.all.len())?;
        Ok(self.some(&Choice::At(&indices)))
    }

    fn without(&self, indices: Vec<usize>) -> PyResult<Self> {
        ascending(&indices, self.all.len())?;
        Ok(self.some(&Choice::NotAt(&indices)))
    }

    /// One after the other; None is zeros if `all` are wanted, else it is left out.
    fn packed<'py>(&self, py: Python<'py>, all: bool) -> Bound<'py, PyBytes> {
        if all || !self.all.contains(&NO_KEY) {
            return PyBytes::new(py, self.all.as_flattened());
        }
        let there: Vec<u8> = self.all.iter().filter(|digest| **digest != NO_KEY).flatten().copied().collect();
        PyBytes::new(py, &there)
    }

    /// Only those that there are.
    fn known(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        if !slf.get().all.contains(&NO_KEY) {
            return Ok(slf);
        }
        let all = &slf.get().all;
        let there: Vec<usize> = (0..all.len()).filter(|&index| all[index] != NO_KEY).collect();
        Bound::new(slf.py(), slf.get().some(&Choice::At(&there)))
    }
}

/// Which of several; indices ascend.
enum Choice<'a> {
    Between(usize, usize),
    At(&'a [usize]),
    NotAt(&'a [usize]),
}

impl Choice<'_> {
    fn of<T: Copy>(&self, all: &[T]) -> Vec<T> {
        match self {
            Self::Between(first, last) => all[*first..*last].to_vec(),
            Self::At(indices) => indices.iter().map(|&index| all[index]).collect(),
            Self::NotAt(indices) => {
                let (mut left, mut first) = (Vec::with_capacity(all.len() - indices.len()), 0);
                for &index in *indices {
                    left.extend_from_slice(&all[first..index]);
                    first = index + 1;
                }
                left.extend_from_slice(&all[first..]);
                left
            }
        }
    }
}

fn checked_index(index: isize, count: usize) -> PyResult<usize> {
    let found = if index < 0 { index + count as isize } else { index };
    if found < 0 || found >= count as isize {
        return Err(PyIndexError::new_err("index out of range"));
    }
    Ok(found as usize)
}

pub fn ascending(indices: &[usize], count: usize) -> PyResult<()> {
    let in_order = indices.is_sorted_by(|one, next| one < next);
    if !in_order || indices.last().is_some_and(|&last| last >= count) {
        return Err(PyIndexError::new_err("indices must ascend, within the sequence"));
    }
    Ok(())
}
