//! Keys that are pending or known, compactly. The rules are those of `ingestd/processing/dedup.py`, which is
//! the definition; a test holds one to the other. No Python here.
//!
//! One open-addressing table with a byte beside each slot, which says to which generation its key belongs.

use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memchr;
use memmap2::MmapMut;

pub const DIGEST_BYTES: usize = 16;
pub type Digest = [u8; DIGEST_BYTES];

/// Of no key: BLAKE2b gives it for none that anybody will find.
pub const NO_KEY: Digest = [0; DIGEST_BYTES];

const GENERATIONS: usize = 16;

/// Live ones: more than age and number ever make, unless nearly all keys of each were freed.
const MOST_GENERATIONS: usize = 200;

/// There is room for so many keys at the start. A large table is written to all over soon, and has all of its memory
/// then.
const MOST_AT_START: usize = 1 << 15;

/// With the first key beyond these there is room for `max_count`, or for so many.
const MOST_AT_ONCE: usize = 1 << 22;

const LEAST_SLOTS: usize = 64;

/// Looked up together, so that waiting for memory overlaps.
const BLOCK: usize = 16;

/// The tag of a key that is pending, and of a free slot.
const PENDING: u8 = 0;

/// In the place of a slot: not known.
pub const NO_SLOT: u32 = u32::MAX;

/// Of all tables: none has an epoch of another.
static EPOCHS: AtomicU64 = AtomicU64::new(0);

/// Where claimed keys are, parallel to their digests, or nothing; true as long as their table has this epoch.
/// So nobody has to look for a key again in memory that is far away by then.
#[derive(Clone, Default)]
pub struct Places {
    pub epoch: u64,
    pub slots: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Free,
    Pending,
    Known,
}

/// Keys that became known at about the same time. `since`, `until`: when the first and the last did; `count`: how
/// many did, `left`: of those that still are.
struct Generation {
    tag: u8,
    since: f64,
    until: f64,
    count: usize,
    left: usize,
}

impl Generation {
    fn new(tag: u8) -> Self {
        Self { tag, since: 0.0, until: f64::NEG_INFINITY, count: 0, left: 0 }
    }
}

pub struct Table {
    slots: Slots,
    tags: Vec<u8>,
    closed: VecDeque<Generation>,
    current: Generation,
    max_count: usize,
    max_age_s: f64,
    generation: usize,
    /// Another one, whenever a key that is there moves or goes.
    epoch: u64,
    pub pending: usize,
    pub known: usize,
}

impl Table {
    pub fn new(max_count: usize, max_age_s: f64) -> Self {
        let slots = slots_for(max_count.min(MOST_AT_START));
        Self {
            slots: Slots::new(slots),
            tags: vec![PENDING; slots],
            closed: VecDeque::new(),
            current: Generation::new(1),
            max_count,
            max_age_s,
            generation: (max_count / GENERATIONS).max(1),
            epoch: next_epoch(),
            pending: 0,
            known: 0,
        }
    }

    pub fn state(&self, digest: &Digest) -> State {
        match self.find(digest) {
            Err(_) => State::Free,
            Ok(slot) if self.tags[slot] == PENDING => State::Pending,
            Ok(_) => State::Known,
        }
    }

    /// Claims those that are free, but for `NO_KEY`; `found` is called with those that are not, by index. Gives where
    /// those are now that were free.
    pub fn claim(&mut self, digests: &[Digest], mut found: impl FnMut(usize, State)) -> Places {
        let epoch = self.epoch;
        let mut slots = vec![NO_SLOT; digests.len()];
        for (number, block) in digests.chunks(BLOCK).enumerate() {
            self.touch(block);
            for (index, digest) in block.iter().enumerate() {
                if *digest == NO_KEY {
                    continue;
                }
                let at = number * BLOCK + index;
                match self.find(digest) {
                    Err(slot) => {
                        slots[at] = u32::try_from(slot).unwrap_or(NO_SLOT);
                        self.put(slot, digest);
                    }
                    Ok(slot) => {
                        let state = if self.tags[slot] == PENDING { State::Pending } else { State::Known };
                        found(at, state);
                    }
                }
            }
        }
        if self.epoch == epoch { Places { epoch, slots } } else { Places::default() }
    }

    /// `places`: of the digests, as `claim` has given them.
    pub fn confirm(&mut self, digests: &[Digest], places: Option<&Places>, now: f64) {
        let (epoch, slots) = places.map_or((0, &[][..]), |places| (places.epoch, &places.slots[..]));
        for (number, block) in digests.chunks(BLOCK).enumerate() {
            let slots = slots.get(number * BLOCK..).unwrap_or_default();
            if slots.is_empty() || self.epoch != epoch {
                self.touch(block);
                self.touch_tags(block);
            }
            for (index, digest) in block.iter().enumerate() {
                let known = slots.get(index).filter(|&&slot| slot != NO_SLOT && self.epoch == epoch);
                let slot = match known {
                    Some(&slot) => slot as usize,
                    None => self.find_or_put(digest), // also a dead letter's key, which was free meanwhile
                };
                if self.tags[slot] == PENDING {
                    self.remember(slot, now);
                }
            }
        }
        self.shrink();
    }

    pub fn release(&mut self, digests: &[Digest]) {
        for block in digests.chunks(BLOCK) {
            self.touch(block);
            self.touch_tags(block);
            for digest in block {
                if let Ok(slot) = self.find(digest)
                    && self.tags[slot] == PENDING
                {
                    self.remove(slot);
                    self.pending -= 1;
                }
            }
        }
    }

    /// Indices of those that are not pending.
    pub fn settled(&self, digests: &[Digest]) -> Vec<usize> {
        let mut found = Vec::new();
        for (number, block) in digests.chunks(BLOCK).enumerate() {
            self.touch(block);
            self.touch_tags(block);
            let there = block.iter().enumerate().filter(|(_, digest)| self.state(digest) != State::Pending);
            found.extend(there.map(|(index, _)| number * BLOCK + index));
        }
        found
    }

    /// Known keys are free again.
    pub fn forget(&mut self, digests: &[Digest]) {
        for digest in digests {
            if let Ok(slot) = self.find(digest)
                && self.tags[slot] != PENDING
            {
                let tag = self.tags[slot];
                self.remove(slot);
                self.known -= 1;
                if self.current.tag == tag {
                    self.current.left -= 1;
                } else if let Some(at) = self.closed.iter().position(|generation| generation.tag == tag) {
                    self.closed[at].left -= 1;
                    if self.closed[at].left == 0 {
                        self.closed.remove(at);
                    }
                }
            }
        }
    }

    pub fn restore(&mut self, digests: &[Digest], confirmed_at: f64, now: f64) {
        if now - confirmed_at > self.max_age_s {
            return;
        }
        self.close_if_old(confirmed_at);
        for digest in digests {
            if self.find(digest).is_err() {
                let slot = self.find_or_put(digest);
                self.remember(slot, confirmed_at);
            }
        }
        self.shrink();
    }

    pub fn expire(&mut self, now: f64) {
        self.close_if_old(now);
        while self.closed.front().is_some_and(|oldest| now - oldest.until > self.max_age_s) {
            self.drop_oldest();
        }
    }

    // --- generations ---

    /// A pending key is known from now on.
    fn remember(&mut self, slot: usize, now: f64) {
        if self.current.count == 0 {
            self.current.since = now;
        }
        self.current.until = self.current.until.max(now);
        self.current.count += 1;
        self.current.left += 1;
        self.tags[slot] = self.current.tag;
        self.pending -= 1;
        self.known += 1;
        if self.current.count >= self.generation {
            self.close_generation();
        }
    }

    fn close_if_old(&mut self, now: f64) {
        if self.current.count > 0 && now - self.current.since >= self.max_age_s / GENERATIONS as f64 {
            self.close_generation();
        }
    }

    fn close_generation(&mut self) {
        if self.closed.len() >= MOST_GENERATIONS {
            self.drop_oldest();
        }
        let mut next = self.current.tag;
        loop {
            next = if next == u8::MAX { PENDING + 1 } else { next + 1 };
            if next != self.current.tag && self.closed.iter().all(|generation| generation.tag != next) {
                break;
            }
        }
        let closed = std::mem::replace(&mut self.current, Generation::new(next));
        if closed.left > 0 {
            self.closed.push_back(closed);
        }
    }

    fn shrink(&mut self) {
        while self.known > self.max_count && !self.closed.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.closed.pop_front() else { return };
        self.known -= oldest.left;
        let (mut left, mut from) = (oldest.left, 0);
        while left > 0 {
            let Some(slot) = memchr(oldest.tag, &self.tags[from..]) else { break };
            from += slot; // what moves into this slot is looked at next
            self.remove(from);
            left -= 1;
        }
    }

    // --- slots ---

    /// Where it is, or where it would be.
    fn find(&self, digest: &Digest) -> Result<usize, usize> {
        let mut slot = self.home(digest);
        loop {
            let there = &self.slots[slot];
            if there == digest {
                return Ok(slot);
            }
            if *there == NO_KEY {
                return Err(slot);
            }
            slot = self.behind(slot);
        }
    }

    /// Where it is, from now on at least. The table may grow with it.
    fn find_or_put(&mut self, digest: &Digest) -> usize {
        if let Err(slot) = self.find(digest) {
            self.put(slot, digest);
        }
        self.find(digest).unwrap_or_else(|free| free)
    }

    /// Digests are made under a secret: nobody can choose them to fall together.
    fn home(&self, digest: &Digest) -> usize {
        let hash = u64::from_le_bytes(*digest.first_chunk().expect("sixteen bytes"));
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    fn behind(&self, slot: usize) -> usize {
        if slot + 1 == self.slots.len() { 0 } else { slot + 1 }
    }

    /// Ask for the memory of all of them, which then comes together.
    fn touch(&self, digests: &[Digest]) {
        let mut all = 0;
        for digest in digests {
            all |= self.slots[self.home(digest)][0];
        }
        black_box(all);
    }

    /// As `touch`, of their tags: only who is to write these gains by it.
    fn touch_tags(&self, digests: &[Digest]) {
        black_box(digests.iter().fold(0, |all, digest| all | self.tags[self.home(digest)]));
    }

    /// A digest that is not there, into the slot that `find` has given. It is pending, as the tag of a free slot
    /// says already.
    fn put(&mut self, slot: usize, digest: &Digest) {
        self.slots[slot] = *digest;
        self.pending += 1;
        if (self.pending + self.known) * 4 > self.slots.len() * 3 {
            self.grow();
        }
    }

    fn grow(&mut self) {
        self.epoch = next_epoch();
        let whole = slots_for(self.max_count.min(MOST_AT_ONCE));
        let count = if self.slots.len() < whole { whole } else { self.slots.len() * 2 };
        let slots = std::mem::replace(&mut self.slots, Slots::new(count));
        let tags = std::mem::replace(&mut self.tags, vec![PENDING; count]);
        for (digest, tag) in slots.iter().zip(tags) {
            if *digest != NO_KEY
                && let Err(slot) = self.find(digest)
            {
                self.slots[slot] = *digest;
                self.tags[slot] = tag;
            }
        }
    }

    /// Keys behind it that stand there for want of a better slot move up. It is no longer counted by the caller.
    fn remove(&mut self, slot: usize) {
        self.epoch = next_epoch();
        let (mut hole, mut next) = (slot, slot);
        loop {
            next = self.behind(next);
            let digest = self.slots[next];
            if digest == NO_KEY {
                break;
            }
            if self.distance(self.home(&digest), next) >= self.distance(hole, next) {
                self.slots[hole] = digest;
                self.tags[hole] = self.tags[next];
                hole = next;
            }
        }
        self.slots[hole] = NO_KEY;
        self.tags[hole] = PENDING;
    }

    /// Slots from one to another, onward.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }
}

fn slots_for(keys: usize) -> usize {
    (keys * 3 / 2).max(LEAST_SLOTS)
}

/// Of huge pages, where the system has them: the next key is anywhere in a large table, and to find the memory of
/// a small page anew for each costs more than the key.
struct Slots(MmapMut);

impl Slots {
    /// All of them are free.
    fn new(count: usize) -> Self {
        let memory = MmapMut::map_anon(count * DIGEST_BYTES).expect("memory for keys");
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage); // without any it is only slower
        Self(memory)
    }
}

impl Deref for Slots {
    type Target = [Digest];

    fn deref(&self) -> &[Digest] {
        self.0.as_chunks().0
    }
}

impl DerefMut for Slots {
    fn deref_mut(&mut self) -> &mut [Digest] {
        self.0.as_chunks_mut().0
    }
}

fn next_epoch() -> u64 {
    EPOCHS.fetch_add(1, Ordering::Relaxed) + 1
}
