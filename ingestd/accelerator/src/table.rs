//! Keys that are pending or known, compactly. The rules are those of `ingestd/processing/dedup.py`, which is
//! the definition; a test holds one to the other. No Python here.

use std::collections::VecDeque;

use hashbrown::HashTable;

pub const DIGEST_BYTES: usize = 16;
pub type Digest = [u8; DIGEST_BYTES];

const GENERATIONS: usize = 16;
const BLOCK: usize = 1 << 16;
/// Slots are allocated in blocks, since one large vector would double for a moment whenever it grows.

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Free,
    Pending,
    Known,
    /// Freed, but its place in a generation is still there.
    Stale,
}

pub struct Table {
    index: HashTable<u32>,
    blocks: Vec<Vec<Digest>>,
    states: Vec<State>,
    free: Vec<u32>,
    closed: VecDeque<(f64, Vec<u32>)>,
    current: Vec<u32>,
    since: f64,
    until: f64,
    max_count: usize,
    max_age_s: f64,
    generation: usize,
    stale: usize,
    pub pending: usize,
    pub known: usize,
}

impl Table {
    pub fn new(max_count: usize, max_age_s: f64) -> Self {
        Self {
            index: HashTable::new(),
            blocks: Vec::new(),
            states: Vec::new(),
            free: Vec::new(),
            closed: VecDeque::new(),
            current: Vec::new(),
            since: 0.0,
            until: 0.0,
            max_count,
            max_age_s,
            generation: (max_count / GENERATIONS).max(1),
            stale: 0,
            pending: 0,
            known: 0,
        }
    }

    pub fn state(&self, digest: &Digest) -> State {
        self.find(digest).map_or(State::Free, |slot| self.states[slot as usize])
    }

    /// What the key was before; one that was free is pending now.
    pub fn claim(&mut self, digest: &Digest) -> State {
        let before = self.state(digest);
        if before == State::Free {
            self.put(digest, State::Pending);
        }
        before
    }

    pub fn confirm<'a>(&mut self, digests: impl Iterator<Item = &'a Digest>, now: f64) {
        for digest in digests {
            match self.find(digest) {
                None => {
                    let slot = self.put(digest, State::Known); // a dead letter's key, which was free meanwhile
                    self.remember(slot, now);
                }
                Some(slot) if self.states[slot as usize] == State::Pending => {
                    self.states[slot as usize] = State::Known;
                    self.pending -= 1;
                    self.known += 1;
                    self.remember(slot, now);
                }
                Some(_) => {}
            }
        }
        self.shrink();
    }

    pub fn release<'a>(&mut self, digests: impl Iterator<Item = &'a Digest>) {
        for digest in digests {
            if self.state(digest) == State::Pending {
                let slot = self.take(digest);
                self.states[slot as usize] = State::Free;
                self.free.push(slot);
                self.pending -= 1;
            }
        }
    }

    /// Known keys are free again.
    pub fn forget<'a>(&mut self, digests: impl Iterator<Item = &'a Digest>) {
        for digest in digests {
            if self.state(digest) == State::Known {
                let slot = self.take(digest);
                self.states[slot as usize] = State::Stale;
                self.known -= 1;
                self.stale += 1;
            }
        }
        if self.stale > self.max_count {
            self.sweep();
        }
    }

    pub fn restore<'a>(&mut self, digests: impl Iterator<Item = &'a Digest>, confirmed_at: f64, now: f64) {
        if now - confirmed_at > self.max_age_s {
            return;
        }
        let mut fresh = Vec::new();
        for digest in digests {
            if self.state(digest) == State::Free {
                fresh.push(self.put(digest, State::Known));
            }
        }
        self.closed.push_back((confirmed_at, fresh));
        self.shrink();
    }

    pub fn expire(&mut self, now: f64) {
        if !self.current.is_empty() && now - self.since >= self.max_age_s / GENERATIONS as f64 {
            self.close_generation();
        }
        while self.closed.front().is_some_and(|(at, _)| now - at > self.max_age_s) {
            self.drop_oldest();
        }
    }

    // --- generations ---

    fn remember(&mut self, slot: u32, now: f64) {
        if self.current.is_empty() {
            self.since = now;
        }
        self.until = now;
        self.current.push(slot);
        if self.current.len() >= self.generation {
            self.close_generation();
        }
    }

    fn close_generation(&mut self) {
        let mut closed = std::mem::take(&mut self.current);
        closed.shrink_to_fit();
        self.closed.push_back((self.until, closed));
    }

    fn shrink(&mut self) {
        while self.known > self.max_count && !self.closed.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        for slot in self.closed.pop_front().map(|(_, slots)| slots).unwrap_or_default() {
            if self.states[slot as usize] == State::Known {
                let digest = *self.digest(slot);
                self.take(&digest);
                self.known -= 1;
            } else {
                self.stale -= 1;
            }
            self.states[slot as usize] = State::Free;
            self.free.push(slot);
        }
    }

    /// Take the places of freed keys out of the generations.
    fn sweep(&mut self) {
        let (states, free) = (&mut self.states, &mut self.free);
        let mut keep = |slot: &u32| {
            let stale = states[*slot as usize] == State::Stale;
            if stale {
                states[*slot as usize] = State::Free;
                free.push(*slot);
            }
            !stale
        };
        for (_, slots) in &mut self.closed {
            slots.retain(&mut keep);
        }
        self.current.retain(&mut keep);
        self.stale = 0;
    }

    // --- slots ---

    fn find(&self, digest: &Digest) -> Option<u32> {
        self.index.find(hash(digest), |&slot| self.digest(slot) == digest).copied()
    }

    fn digest(&self, slot: u32) -> &Digest {
        &self.blocks[slot as usize / BLOCK][slot as usize % BLOCK]
    }

    /// A digest that is not in the table.
    fn put(&mut self, digest: &Digest, state: State) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = self.states.len();
            self.states.push(State::Free);
            if slot % BLOCK == 0 {
                self.blocks.push(Vec::with_capacity(BLOCK));
            }
            self.blocks[slot / BLOCK].push([0; DIGEST_BYTES]);
            u32::try_from(slot).expect("a window of fewer than four thousand million keys")
        });
        self.blocks[slot as usize / BLOCK][slot as usize % BLOCK] = *digest;
        self.states[slot as usize] = state;
        if state == State::Pending {
            self.pending += 1;
        } else {
            self.known += 1;
        }
        let blocks = &self.blocks;
        self.index.insert_unique(hash(digest), slot, |&slot| {
            hash(&blocks[slot as usize / BLOCK][slot as usize % BLOCK])
        });
        slot
    }

    /// Take a digest that is there out of the index. Its slot is the caller's.
    fn take(&mut self, digest: &Digest) -> u32 {
        let blocks = &self.blocks;
        let found = self.index.find_entry(hash(digest), |&slot| {
            &blocks[slot as usize / BLOCK][slot as usize % BLOCK] == digest
        });
        match found {
            Ok(entry) => entry.remove().0,
            Err(_) => unreachable!("the caller has found it"),
        }
    }
}

/// Digests are made under a secret: nobody can choose them to fall together.
fn hash(digest: &Digest) -> u64 {
    u64::from_le_bytes(*digest.first_chunk().expect("sixteen bytes"))
}
