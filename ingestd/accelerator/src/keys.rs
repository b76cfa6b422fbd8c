//! The key texts of a chunk's events, and their digests.

use std::str;

use blake2b_simd::Params;
use blake2b_simd::many::{HashManyJob, hash_many};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use crate::events::ascending;
use crate::json;
use crate::table::{DIGEST_BYTES, Digest, NO_KEY};

/// At most; behind a secret that is shorter there is more room for keys.
pub const SECRET_BYTES: usize = 16;

/// Room for the secret before each text, so that both are hashed where they are.
const GAP: [u8; SECRET_BYTES] = [0; SECRET_BYTES];

/// Its number, from 0, and how many there are.
pub type Part = (u32, u32);

/// Bytes of a key text, from behind the gap; ``(0, 0)``: None, ``(1, 1)``: valid and without a key.
type Span = (u32, u32);
const NONE: Span = (0, 0);
const EMPTY: Span = (1, 1);

/// Parallel to events: a key text, `""` (valid and without a key) or None (not accepted).
#[pyclass(sequence, module = "ingestd_accelerator")]
pub struct Keys {
    text: Vec<u8>,
    spans: Vec<Span>,
    /// Under `secret`, as far as they were asked for; `NO_KEY` where there is no text, or it is new.
    pub digests: Vec<Digest>,
    secret: Vec<u8>,
    /// Indices of those of a part, where it is known.
    of_part: Option<(Part, Vec<usize>)>,
}

impl Keys {
    pub fn of_runs(runs: &[(&[u8], &[(u32, u32)])], max_depth: usize, max_bytes: usize) -> Self {
        let count = runs.iter().map(|(_, spans)| spans.len()).sum();
        let mut keys = Self::new(Vec::with_capacity(count * 128), Vec::with_capacity(count));
        let mut reader = json::Reader::new(max_depth);
        for (data, spans) in runs {
            for &(start, end) in *spans {
                let (start, end) = (start as usize, end as usize);
                let accepted = if end - start > max_bytes { None } else { reader.accept(data, start, end) };
                let span = match accepted {
                    Some(key) => keys.add(&[key.interaction, b"\0", key.kind, b"\0", key.time]),
                    None => NONE,
                };
                keys.spans.push(span);
            }
        }
        keys
    }

    fn new(text: Vec<u8>, spans: Vec<Span>) -> Self {
        Self { text, spans, digests: Vec::new(), secret: Vec::new(), of_part: None }
    }

    fn add(&mut self, parts: &[&[u8]]) -> Span {
        self.text.extend_from_slice(&GAP);
        let start = self.text.len();
        parts.iter().for_each(|part| self.text.extend_from_slice(part));
        // a chunk's keys are part of a chunk, which has less than 4 GiB
        (start as u32, self.text.len() as u32)
    }

    fn get<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.spans[index] {
            NONE => py.None().into_bound(py),
            EMPTY => PyString::new(py, "").into_any(),
            (start, end) => {
                PyString::from_bytes(py, &self.text[start as usize..end as usize])?.into_any()
            }
        })
    }

    fn list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, (0..self.spans.len()).map(|index| self.get(py, index)).collect::<PyResult<Vec<_>>>()?)
    }

    /// Whether the text at this index is of part `number` of `count`: see `ingestd/core/sequences.py`.
    fn is_of(&self, index: usize, (number, count): Part) -> bool {
        let (start, end) = self.spans[index];
        if start <= 1 {
            return false;
        }
        let checksum = u64::from(crc32fast::hash(&self.text[start as usize..end as usize]));
        ((checksum * 0x9E37_79B1) >> 12 & 0xF_FFFF) % u64::from(count) == u64::from(number)
    }

    fn indices_of(&self, part: Part) -> Vec<usize> {
        (0..self.spans.len()).filter(|&index| self.is_of(index, part)).collect()
    }

    /// Have `digests`, parallel to the keys; of `part` alone where one is given.
    pub fn hash(&mut self, secret: &[u8], part: Option<Part>) {
        if self.secret != secret {
            self.digests.clear();
            self.secret = secret.to_vec();
        }
        self.digests.resize(self.spans.len(), NO_KEY);
        let new = |index: &usize| self.spans[*index].0 > 1 && self.digests[*index] == NO_KEY;
        let new: Vec<usize> = match part {
            Some(part) => {
                let mine = self.indices_of(part);
                let new = mine.iter().copied().filter(new).collect();
                self.of_part = Some((part, mine));
                new
            }
            None => (0..self.spans.len()).filter(new).collect(),
        };
        for &index in &new {
            let start = self.spans[index].0 as usize;
            self.text[start - secret.len()..start].copy_from_slice(secret);
        }
        let params = params();
        let job = |&index: &usize| {
            let (start, end) = self.spans[index];
            HashManyJob::new(&params, &self.text[start as usize - secret.len()..end as usize])
        };
        let mut jobs: Vec<HashManyJob<'_>> = new.iter().map(job).collect();
        hash_many(jobs.iter_mut());
        for (&index, job) in new.iter().zip(&jobs) {
            self.digests[index] = digest_of(job.to_hash().as_bytes());
        }
    }
}

#[pymethods]
impl Keys {
    #[staticmethod]
    fn concat(parts: Vec<PyRef<'_, Keys>>) -> Self {
        let mut all = Self::new(Vec::new(), Vec::new());
        for part in &parts {
            let before = all.text.len() as u32;
            all.text.extend_from_slice(&part.text);
            let moved = part.spans.iter().map(|span| match *span {
                NONE | EMPTY => *span,
                (start, end) => (start + before, end + before),
            });
            all.spans.extend(moved);
        }
        all
    }

    /// Those at these indices, which ascend, with the digests they have.
    fn pick(&self, indices: Vec<usize>) -> PyResult<Self> {
        ascending(&indices, self.spans.len())?;
        let mut some = Self::new(Vec::with_capacity(indices.len() * 128), Vec::with_capacity(indices.len()));
        for &index in &indices {
            let span = match self.spans[index] {
                NONE => NONE,
                EMPTY => EMPTY,
                (start, end) => some.add(&[&self.text[start as usize..end as usize]]),
            };
            some.spans.push(span);
        }
        if !self.digests.is_empty() {
            some.digests = indices.iter().map(|&index| self.digests[index]).collect();
            some.secret = self.secret.clone();
        }
        Ok(some)
    }

    /// Indices of those whose text is of part `number` of `count`.
    fn part(&self, number: u32, count: u32) -> PyResult<Vec<usize>> {
        if count == 0 {
            return Err(pyo3::exceptions::PyValueError::new_err("there is no part of nothing"));
        }
        Ok(match &self.of_part {
            Some((part, mine)) if *part == (number, count) => mine.clone(),
            _ => self.indices_of((number, count)),
        })
    }

    fn __len__(&self) -> usize {
        self.spans.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match index.extract::<usize>() {
            Ok(at) if at < self.spans.len() => self.get(py, at),
            _ => self.list(py)?.as_any().get_item(index),
        }
    }

    fn __setitem__(&mut self, index: usize, key: Option<&str>) -> PyResult<()> {
        if index >= self.spans.len() {
            return Err(pyo3::exceptions::PyIndexError::new_err("index out of range"));
        }
        self.spans[index] = match key {
            None => NONE,
            Some("") => EMPTY,
            Some(text) => self.add(&[text.as_bytes()]),
        };
        self.of_part = None;
        if let Some(digest) = self.digests.get_mut(index) {
            *digest = NO_KEY;
        }
        Ok(())
    }

    fn __contains__(&self, key: Option<&str>) -> bool {
        match key {
            None => self.spans.contains(&NONE),
            Some("") => self.spans.contains(&EMPTY),
            Some(text) => self
                .spans
                .iter()
                .any(|&(start, end)| start > 1 && &self.text[start as usize..end as usize] == text.as_bytes()),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.list(py)?.try_iter()?.into_any())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("Keys({})", self.list(py)?.repr()?))
    }

    /// Indices of those that are None.
    fn missing(&self) -> Vec<usize> {
        self.spans.iter().enumerate().filter(|(_, span)| **span == NONE).map(|(index, _)| index).collect()
    }
}

fn params() -> Params {
    let mut params = Params::new();
    params.hash_length(DIGEST_BYTES);
    params
}

/// Of one key, secret before it.
pub fn digest(secret: &[u8], key: &str) -> Digest {
    let hash = params().to_state().update(secret).update(key.as_bytes()).finalize();
    digest_of(hash.as_bytes())
}

fn digest_of(hash: &[u8]) -> Digest {
    *hash.first_chunk().expect("sixteen bytes were asked for")
}
