//! Compiled inner loops of ingestd, chunk by chunk. Whatever they are not sure of they leave to Python.

mod events;
mod json;
mod keys;
mod table;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::events::{Digests, Events};
use crate::keys::{Keys, SECRET_BYTES};
use crate::table::{Digest, NO_KEY, State, Table};

/// The keys of a dedup window. See `ingestd/processing/dedup.py`.
#[pyclass(module = "ingestd_accelerator")]
struct KeyTable {
    secret: Vec<u8>,
    table: Table,
}

type Claimed = (Digests, Vec<usize>, Vec<(usize, Py<PyBytes>)>);

#[pymethods]
impl KeyTable {
    /// `secret`: at most 16 bytes.
    #[new]
    fn new(secret: &[u8], max_count: usize, max_age_s: f64) -> PyResult<Self> {
        if secret.len() > SECRET_BYTES {
            return Err(PyValueError::new_err("a secret has at most 16 bytes"));
        }
        Ok(Self { secret: secret.to_vec(), table: Table::new(max_count, max_age_s) })
    }

    /// Keys that are known.
    fn __len__(&self) -> usize {
        self.table.known
    }

    #[getter]
    fn pending(&self) -> usize {
        self.table.pending
    }

    fn digest<'py>(&self, py: Python<'py>, key: &str) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &keys::digest(&self.secret, key))
    }

    /// (digests, indices of copies of known keys, (index, digest) of copies of pending ones).
    fn claim(slf: &Bound<'_, Self>, keys: &Bound<'_, PyAny>, now: f64) -> PyResult<Claimed> {
        let py = slf.py();
        let secret = &slf.borrow().secret.clone();
        let mut all: Vec<Digest> = if let Ok(compiled) = keys.cast::<Keys>() {
            let mut compiled = compiled.borrow_mut();
            compiled.hash(secret, None);
            compiled.digests.clone()
        } else {
            keys.try_iter()?
                .map(|key| {
                    let key = key?.extract::<Option<String>>()?.filter(|text| !text.is_empty());
                    Ok(key.map_or(NO_KEY, |text| keys::digest(secret, &text)))
                })
                .collect::<PyResult<_>>()?
        };
        let table = &mut slf.borrow_mut().table;
        table.expire(now);
        let (mut duplicates, mut copies) = (Vec::new(), Vec::new());
        let places = table.claim(&all, |index, state| match state {
            State::Known => duplicates.push(index),
            _ => copies.push((index, PyBytes::new(py, &all[index]).unbind())),
        });
        for &index in duplicates.iter().chain(copies.iter().map(|(index, _)| index)) {
            all[index] = NO_KEY;
        }
        Ok((Digests { all, places }, duplicates, copies))
    }

    /// (positions of copies of known keys, (position, digest) of copies of pending ones); a digest may be None.
    fn claim_digests(
        slf: &Bound<'_, Self>,
        digests: &Bound<'_, PyAny>,
        positions: &Bound<'_, PyAny>,
        now: f64,
    ) -> PyResult<(Vec<usize>, Vec<(usize, Py<PyBytes>)>)> {
        let py = slf.py();
        let positions: Vec<usize> = positions.try_iter()?.map(|at| at?.extract()).collect::<PyResult<_>>()?;
        let read = |&at: &usize| {
            let digest = digests.get_item(at)?;
            if digest.is_none() { Ok(NO_KEY) } else { one(&digest) }
        };
        let all = positions.iter().map(read).collect::<PyResult<Vec<Digest>>>()?;
        let table = &mut slf.borrow_mut().table;
        table.expire(now);
        let (mut duplicates, mut copies) = (Vec::new(), Vec::new());
        table.claim(&all, |index, state| match state {
            State::Known => duplicates.push(positions[index]),
            _ => copies.push((positions[index], PyBytes::new(py, &all[index]).unbind())),
        });
        Ok((duplicates, copies))
    }

    // Digests may come from a generator that asks this very table: they are read before it is borrowed.

    fn confirm(slf: &Bound<'_, Self>, digests: &Bound<'_, PyAny>, now: f64) -> PyResult<()> {
        let (all, places): (&[Digest], _) = match digests.cast::<Digests>() {
            Ok(compiled) => (&compiled.get().all, Some(&compiled.get().places)),
            Err(_) => (&read(digests)?, None),
        };
        let table = &mut slf.borrow_mut().table;
        table.expire(now);
        table.confirm(all, places, now);
        Ok(())
    }

    fn release(slf: &Bound<'_, Self>, digests: &Bound<'_, PyAny>) -> PyResult<()> {
        let all = read(digests)?;
        slf.borrow_mut().table.release(&all);
        Ok(())
    }

    fn forget(slf: &Bound<'_, Self>, digests: &Bound<'_, PyAny>) -> PyResult<()> {
        let all = read(digests)?;
        slf.borrow_mut().table.forget(&all);
        Ok(())
    }

    fn restore(
        slf: &Bound<'_, Self>,
        digests: &Bound<'_, PyAny>,
        confirmed_at: f64,
        now: f64,
    ) -> PyResult<()> {
        let all = read(digests)?;
        slf.borrow_mut().table.restore(&all, confirmed_at, now);
        Ok(())
    }

    fn reclaim(slf: &Bound<'_, Self>, digests: &Bound<'_, PyAny>) -> PyResult<()> {
        let all = read(digests)?;
        let _ = slf.borrow_mut().table.claim(&all, |_, _| ());
        Ok(())
    }

    /// Those that are not pending.
    fn settled<'py>(&self, digests: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let given = digests.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let all = given.iter().map(one).collect::<PyResult<Vec<_>>>()?;
        Ok(self.table.settled(&all).into_iter().map(|index| given[index].clone()).collect())
    }

    fn is_pending(&self, digest: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.table.state(&one(digest)?) == State::Pending)
    }

    fn has(&self, digest: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.table.state(&one(digest)?) != State::Free)
    }
}

/// Of `Digests`, or of `bytes` objects.
fn read(digests: &Bound<'_, PyAny>) -> PyResult<Vec<Digest>> {
    if let Ok(compiled) = digests.cast::<Digests>() {
        return Ok(compiled.get().all.clone());
    }
    digests
        .try_iter()?
        .map(|digest| one(&digest?))
        .collect()
}

fn one(digest: &Bound<'_, PyAny>) -> PyResult<Digest> {
    let bytes = digest.cast::<PyBytes>()?.as_bytes();
    bytes.try_into().map_err(|_| PyValueError::new_err("a digest has 16 bytes"))
}

/// As `zlib.crc32`.
#[pyfunction]
#[pyo3(signature = (data, before = 0))]
fn crc32(data: &[u8], before: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(data);
    hasher.finalize()
}

/// Whether the environment says that nobody should use this.
#[pyfunction]
fn is_off() -> bool {
    std::env::var("INGESTD_ACCELERATOR")
        .is_ok_and(|said| ["off", "0", "no", "false"].contains(&said.to_lowercase().as_str()))
}

#[pymodule]
fn ingestd_accelerator(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Events>()?;
    module.add_class::<Digests>()?;
    module.add_class::<Keys>()?;
    module.add_class::<KeyTable>()?;
    module.add_function(wrap_pyfunction!(events::split_lines, module)?)?;
    module.add_function(wrap_pyfunction!(events::trimmed_lines, module)?)?;
    module.add_function(wrap_pyfunction!(crc32, module)?)?;
    module.add_function(wrap_pyfunction!(is_off, module)?)?;
    Ok(())
}
