//! The one thread that writes: commits, new series, statuses, dropped days; and what it does when the
//! engine fails.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedMutexGuard, oneshot};

use super::{
    Shared, State,
    changes::{Changes, OldDay},
    commit::Committed,
    devices::Unwritten,
    engine::{self, Engine},
    format::Directory,
    keys,
    late::Late,
    series,
    spare::Spare,
};
use crate::{
    model::{Micros, SeriesId, SeriesKey},
    store::{CommitGroup, Outcome, StoreError},
};

mod changes;
mod room;

/// What the thread is asked to do.
pub(super) enum Command {
    Commit(Arc<CommitGroup>, Reply<Vec<Outcome>>),
    Resolve(Vec<SeriesKey>, Reply<Vec<SeriesId>>),
    /// Creates the chunk of a day, from 1970, unless it is there. The turn is let go when that is done, not when its
    /// caller goes.
    PrepareDay(i64, OwnedMutexGuard<()>, Reply<()>),
    /// Moves the watermark, unless it is further on.
    CloseBefore(Micros, Reply<()>),
    /// Commits mark anew from now on; answers the number of the last one that did not.
    Look(Reply<u64>),
    /// From what was seen in that engine.
    Change(Weak<Engine>, Box<Changes>, Reply<()>),
    /// Drops a day unless something was written into it; says whether it is gone.
    DropDay(Weak<Engine>, OldDay, Reply<bool>),
    Close(Reply<()>),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// How often it looks after things while nothing is asked.
const TICK: Duration = Duration::from_secs(1);

/// Statuses are written this long after they changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// Attempts that are remembered: a lane has one group at a time, and lanes are few.
const REMEMBERED: usize = 16;

/// Chunks that got nothing for this long give their memtable back.
const IDLE: Duration = Duration::from_mins(1);

/// New series that wait for a commit to sync them, at most.
const MOST_UNSYNCED: usize = 10_000;

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Keeps other processes out as long as the thread lives.
    directory: Directory,
    spare: Spare,
    engine: Option<Arc<Engine>>,
    /// The engine that failed: it must be gone before the next is opened.
    gone: Weak<()>,
    committed: Committed,
    /// Number of the last commit that was attempted; none is used twice.
    last_commit: u64,
    /// Number of the last commit that is known to be on disk.
    durable: u64,
    attempts: Vec<Attempt>,
    /// Series that were handed out and may not be on disk yet.
    unsynced: series::Created,
    unwritten: Unwritten,
    statuses_written: Instant,
    /// When each day last got a reading.
    written: HashMap<i64, Instant>,
    looked_after: Instant,
    reopen_at: Instant,
    backoff: Duration,
}

/// A group that was tried: its caller may not have learned what became of it.
struct Attempt {
    group: Weak<CommitGroup>,
    number: u64,
    outcomes: Vec<Outcome>,
    committed: bool,
}

/// Why something was not done.
enum Failure {
    /// It was not tried.
    Refused(StoreError),
    /// It was tried, and the engine is not to be used again: a torn entry may end its journal.
    Engine(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Engine(error)
    }
}

impl Writer {
    /// Takes over a directory and its engine.
    ///
    /// # Errors
    ///
    /// When the engine cannot be read.
    pub(super) fn new(shared: Arc<Shared>, directory: Directory, engine: Engine) -> Result<Self, StoreError> {
        let now = Instant::now();
        let spare = Spare::new(&shared.config);
        let mut writer = Self {
            shared,
            directory,
            spare,
            engine: None,
            gone: Weak::new(),
            committed: Committed::new(Late::default()),
            last_commit: 0,
            durable: 0,
            attempts: Vec::new(),
            unsynced: Vec::new(),
            unwritten: Unwritten::default(),
            statuses_written: now,
            written: HashMap::new(),
            looked_after: now,
            reopen_at: now,
            backoff: FIRST_BACKOFF,
        };
        writer.take_over(engine)?;
        Ok(writer)
    }

    /// Works until it is told to close, or nobody is left who could tell it anything.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let closing = loop {
            let wait = match self.engine {
                Some(_) => TICK,
                None => self.reopen_at.saturating_duration_since(Instant::now()),
            };
            match commands.recv_timeout(wait) {
                Ok(Command::Commit(group, reply)) => self.answer(reply, |writer| writer.commit(group)),
                Ok(Command::Resolve(keys, reply)) => self.answer(reply, |writer| writer.resolve(keys)),
                Ok(Command::PrepareDay(day, _turn, reply)) => {
                    self.answer(reply, |writer| writer.prepare_day(day));
                }
                Ok(Command::CloseBefore(time, reply)) => {
                    self.answer(reply, |writer| writer.close_before(time));
                }
                Ok(Command::Look(reply)) => self.answer(reply, |writer| {
                    writer.committed.forget_marks();
                    Ok(writer.last_commit)
                }),
                Ok(Command::Change(of, changes, reply)) => {
                    self.answer(reply, |writer| writer.change(&of, *changes));
                }
                Ok(Command::DropDay(of, day, reply)) => {
                    self.answer(reply, |writer| writer.drop_day(&of, day));
                }
                Ok(Command::Close(reply)) => break Some(reply),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.engine.is_none() {
                self.reopen();
            } else if let Err(Failure::Engine(error)) = self.attempt(Self::look_after) {
                self.fail(&error);
            }
        };
        self.close();
        // The directory is free before anyone hears that it is closed.
        drop(self);
        if let Some(reply) = closing {
            let _ = reply.send(Ok(()));
        }
    }

    fn answer<T>(&mut self, reply: Reply<T>, work: impl FnOnce(&mut Self) -> Result<T, Failure>) {
        let answer = self.attempt(work).map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Engine(error) => {
                self.fail(&error);
                match error {
                    // It is being opened again, and tells then whether it is damaged.
                    StoreError::Damaged(what) => StoreError::Unavailable(what, None),
                    other => other,
                }
            }
        });
        // Nobody may be waiting any more.
        let _ = reply.send(answer);
    }

    /// Does something with the engine, which keeps its invariants with panics.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        catch_unwind(AssertUnwindSafe(|| work(self)))
            .unwrap_or_else(|panic| Err(StoreError::Damaged(engine::panicked(&*panic)).into()))
    }

    /// Takes the group, so that it is let go before anyone hears of the outcome.
    #[expect(clippy::needless_pass_by_value, reason = "see above")]
    fn commit(&mut self, group: Arc<CommitGroup>) -> Result<Vec<Outcome>, Failure> {
        let engine = self.engine()?;
        self.attempts.retain(|attempt| attempt.group.strong_count() > 0);
        if let Some(known) =
            self.attempts.iter().find(|attempt| attempt.group.as_ptr() == Arc::as_ptr(&group))
        {
            return Ok(known.outcomes.clone());
        }
        wait_for_flush(&engine)?;

        let number = self.last_commit + 1;
        self.last_commit = number;
        let mut draft = self.committed.draft(&engine, &group, number)?;
        let batch = draft.take_batch(&engine);
        if !batch.is_empty() {
            self.attempts.truncate(REMEMBERED - 1);
            let outcomes = draft.outcomes.clone();
            self.attempts
                .insert(0, Attempt { group: Arc::downgrade(&group), number, outcomes, committed: false });
            engine::write(batch, true)?;
            self.attempts[0].committed = true;
            self.durable = number;
            self.backoff = FIRST_BACKOFF;
            self.unsynced.clear();
        }
        if !draft.touched.is_empty() {
            self.unwritten.devices.extend(draft.touched.iter().map(|&(device, _)| device));
            self.unwritten.commits.push(number);
        }
        let now = Instant::now();
        self.written.extend(draft.days.iter().map(|&day| (day, now)));
        let outcomes = self.committed.apply(&engine, draft);
        engine.rotate()?;
        Ok(outcomes)
    }

    fn resolve(&mut self, keys: Vec<SeriesKey>) -> Result<Vec<SeriesId>, Failure> {
        let engine = self.engine()?;
        let (ids, created) = series::resolve(&engine, keys)?;
        self.unsynced.extend(created);
        if self.unsynced.len() > MOST_UNSYNCED {
            engine.sync()?;
            self.unsynced.clear();
        }
        Ok(ids)
    }

    /// The engine, unless it is down or must not be filled further.
    fn engine(&self) -> Result<Arc<Engine>, Failure> {
        match &*self.shared.state.read() {
            State::Open(engine) => Ok(engine.clone()),
            other => Err(Failure::Refused(other.refusal())),
        }
    }

    /// What is to be done once in a while.
    fn look_after(&mut self) -> Result<(), Failure> {
        if self.looked_after.elapsed() < TICK {
            return Ok(());
        }
        self.looked_after = Instant::now();
        let Some(engine) = self.engine.clone() else { return Ok(()) };
        self.check_directory()?;
        engine.check()?;
        if !self.has_room(&engine)? {
            return Ok(());
        }
        if self.statuses_written.elapsed() >= STATUS_INTERVAL {
            self.write_statuses(&engine)?;
        }
        let written = &self.written;
        engine.rotate_idle(|day| written.get(&day).is_some_and(|at| at.elapsed() < IDLE))?;
        Ok(())
    }

    /// Whether the directory is still the one that was opened.
    fn check_directory(&self) -> Result<(), StoreError> {
        self.directory.check().map_err(|error| StoreError::Unavailable(error.to_string(), Some(error.into())))
    }

    fn write_statuses(&mut self, engine: &Engine) -> Result<(), StoreError> {
        self.statuses_written = Instant::now();
        if self.unwritten.commits.is_empty() {
            return Ok(());
        }
        wait_for_flush(engine)?;
        engine::write(self.unwritten.batch(engine), false)?;
        self.unwritten = Unwritten::default();
        Ok(())
    }

    /// Starts with what an engine holds.
    fn take_over(&mut self, engine: Engine) -> Result<(), StoreError> {
        let committed = engine.view().number(keys::LAST_COMMIT)?;
        if committed < self.durable {
            return Err(StoreError::Damaged(format!(
                "the last commit on disk is {committed}, and {} was acknowledged",
                self.durable
            )));
        }
        self.durable = committed;
        self.last_commit = self.last_commit.max(committed);
        self.attempts.retain_mut(|attempt| {
            attempt.committed |= attempt.number <= committed;
            attempt.committed
        });
        self.committed = Committed::new(Late::read(&engine.view())?);
        self.unwritten = Unwritten::read(&engine)?;
        series::restore(&engine, &self.unsynced)?;
        let engine = Arc::new(engine);
        self.shared.set_state(State::Open(engine.clone()));
        self.has_room(&engine)?;
        engine.read_open_again();
        self.engine = Some(engine);
        Ok(())
    }

    fn fail(&mut self, error: &StoreError) {
        tracing::error!(%error, retry_in = ?self.backoff, "the embedded store failed and is being reopened");
        self.shared.set_state(State::of(error));
        if let Some(engine) = self.engine.take() {
            engine.give_up();
            self.gone = engine.alive();
        }
        self.back_off();
    }

    fn back_off(&mut self) {
        self.reopen_at = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
    }

    fn reopen(&mut self) {
        if Instant::now() < self.reopen_at {
            return;
        }
        if self.gone.strong_count() > 0 {
            // Readers are still looking at what failed.
            self.reopen_at = Instant::now() + FIRST_BACKOFF;
            return;
        }
        // It fails again and again: perhaps for want of the little that it takes to begin.
        let room = if self.backoff >= LAST_BACKOFF { self.make_room() } else { Ok(()) };
        let opened = (room.and_then(|()| self.check_directory()))
            .and_then(|()| Engine::open(&self.directory.engine(), &self.shared.config));
        match opened
            .map_err(Into::into)
            .and_then(|engine| self.attempt(|writer| Ok(writer.take_over(engine)?)))
        {
            Ok(()) => tracing::info!("the embedded store is open again"),
            Err(Failure::Refused(error) | Failure::Engine(error)) => {
                tracing::error!(%error, retry_in = ?self.backoff, "the embedded store cannot be reopened");
                self.shared.set_state(State::of(&error));
                self.back_off();
            }
        }
    }

    fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            let written = self.write_statuses(&engine).and_then(|()| engine.sync());
            if let Err(error) = written {
                // Everything acknowledged is on disk; the statuses are rebuilt at the next start.
                tracing::warn!(%error, "the embedded store was not closed cleanly");
            }
            engine.give_up();
            self.gone = engine.alive();
        }
        self.shared.set_state(State::Closed);
        // A read takes milliseconds; one that hangs must not keep the process.
        let deadline = Instant::now() + LAST_BACKOFF;
        while self.gone.strong_count() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits here, where a failed engine is noticed, for what fjall would wait for without end.
fn wait_for_flush(engine: &Engine) -> Result<(), StoreError> {
    while engine.is_behind() {
        engine.check()?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
