//! The thread that owns the connection, and how the rest of the program speaks to it.
//!
//! Requests that arrive while a transaction runs share the next one: one commit carries what
//! a busy supervisor settles and claims, and what many enqueue at once. When a request of such
//! a group fails, or the commit does, the group is undone and each request is tried alone, so that
//! one which can't be met harms no other.
//!
//! The thread sleeps in one `poll(2)`: for requests, for the bell if somebody waits, and for
//! the next instant at which time alone makes a job ready. Neither it nor its callers poll in a loop.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::sync::oneshot;

use super::error::Failure;
use super::open::open;
use super::patience;
use super::store::{Access, Settings, Store, transact_one};
use super::url;
use super::waiters::{Ended, Reply, Waiters};
use crate::broker::source::StopHow;
use crate::broker::{BrokerError, GroupView};
use crate::job::{Claim, GroupId, JobId, QueueName};
use crate::sys::limits::TOO_LOW;
use crate::time::Unix;

/// What the thread is asked for.
enum Request {
    /// Work inside a transaction.
    Run(Access, Box<dyn Work>),
    /// An answer once a claim on these queues may find something.
    Ready(Vec<QueueName>, Reply<()>),
    /// An answer once one of these jobs has ended.
    Ended(Vec<JobId>, Reply<Ended>),
    /// An answer once more than so many members of this group have ended, or all.
    Group(GroupId, u64, Reply<Option<GroupView>>),
    /// An answer once some of these claims were called off.
    CalledOff(Vec<Claim>, Reply<Vec<(usize, StopHow)>>),
    /// Give up the lease and end.
    Close(Reply<()>),
    /// The handle is gone; its lease is left to run out.
    Stop,
}

/// Work inside a transaction; may be done again when the transaction was undone.
trait Work: Send {
    fn run(&mut self, store: &mut Store) -> Result<(), Failure>;
    fn answer(self: Box<Self>, outcome: Result<(), BrokerError>);
}

struct Call<F, R> {
    run: F,
    value: Option<R>,
    reply: Reply<R>,
}

impl<F, R> Work for Call<F, R>
where
    F: FnMut(&mut Store) -> Result<R, Failure> + Send,
    R: Send,
{
    fn run(&mut self, store: &mut Store) -> Result<(), Failure> {
        self.value = Some((self.run)(store)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), BrokerError>) {
        let Call { value, reply, .. } = *self;
        if let Some(answer) = outcome.map(|()| value).transpose() {
            let _ = reply.send(answer); // nobody waits for it any more
        }
    }
}

/// The thread as its handle sees it.
#[derive(Debug)]
pub(super) struct Engine {
    requests: mpsc::Sender<Request>,
    bell: Arc<EventFd>,
    /// Nothing waits long for other processes any more.
    closing: Arc<AtomicBool>,
    url: String,
}

impl Engine {
    /// Opens the database on a thread of its own.
    pub(super) async fn start(path: PathBuf, settings: Settings, fsync: bool) -> Result<Self, BrokerError> {
        let url = url(&path);
        let cannot = |error: io::Error| BrokerError::Unreachable {
            url: url.clone(),
            reason: format!("cannot start its thread: {error}"),
            hint: TOO_LOW,
        };
        let wake = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_value_and_flags(0, wake).map_err(|error| cannot(error.into()))?);
        let alarm = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        // The clock that jobs are due by, so that it follows when that is set or the host sleeps.
        let alarm = TimerFd::new(ClockId::CLOCK_REALTIME, alarm).map_err(|error| cannot(error.into()))?;
        let (requests, inbox) = mpsc::channel();
        let (opened, is_open) = oneshot::channel();
        let (thread_wake, thread_url) = (Arc::clone(&wake), url.clone());
        let closing = Arc::new(AtomicBool::new(false));
        let thread_closing = Arc::clone(&closing);
        std::thread::Builder::new()
            .name("pool-broker".into())
            .spawn(move || {
                // Signals are for the threads that expect them.
                let _ = SigSet::all().thread_block();
                let opening = open(&path, settings, fsync).and_then(|mut store| {
                    let set = patience::set(&mut store.conn, thread_closing);
                    set.map_err(|error| Failure::from(error).tell(&thread_url))?;
                    Ok(store)
                });
                match opening {
                    Err(error) => drop(opened.send(Err(error))),
                    Ok(store) => {
                        let thread = Thread {
                            store,
                            inbox,
                            wake: thread_wake,
                            alarm,
                            alarm_at: None,
                            waiters: Waiters::default(),
                            url: thread_url,
                        };
                        if opened.send(Ok(())).is_ok() {
                            thread.run();
                        }
                    }
                }
            })
            .map_err(cannot)?;
        let engine = Engine {
            requests,
            bell: wake,
            closing,
            url,
        };
        is_open.await.unwrap_or_else(|_| Err(engine.has_ended()))?;
        Ok(engine)
    }

    /// Runs `work` in a transaction, perhaps with that of others, and waits for its commit.
    pub(super) async fn run<R, F>(&self, access: Access, work: F) -> Result<R, BrokerError>
    where
        F: FnMut(&mut Store) -> Result<R, Failure> + Send + 'static,
        R: Send + 'static,
    {
        self.ask(|reply| {
            let call = Call {
                run: work,
                value: None,
                reply,
            };
            Request::Run(access, Box::new(call))
        })
        .await
    }

    /// Waits until a claim on these queues may find something.
    pub(super) async fn ready(&self, queues: Vec<QueueName>) -> Result<(), BrokerError> {
        self.ask(|reply| Request::Ready(queues, reply)).await
    }

    /// Waits until one of these jobs has ended or is gone.
    pub(super) async fn ended(&self, ids: Vec<JobId>) -> Result<Ended, BrokerError> {
        self.ask(|reply| Request::Ended(ids, reply)).await
    }

    /// Waits until more than `beyond` members of a group have ended, or all.
    pub(super) async fn group(&self, id: GroupId, beyond: u64) -> Result<Option<GroupView>, BrokerError> {
        self.ask(|reply| Request::Group(id, beyond, reply)).await
    }

    /// Waits until some of these claims are called off.
    pub(super) async fn called_off(&self, claims: Vec<Claim>) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        self.ask(|reply| Request::CalledOff(claims, reply)).await
    }

    /// Gives up the lease and closes the database.
    pub(super) async fn close(&self) -> Result<(), BrokerError> {
        self.closing.store(true, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        self.send(Request::Close(reply));
        // No answer: it was closed before.
        answer.await.unwrap_or(Ok(()))
    }

    async fn ask<R>(&self, request: impl FnOnce(Reply<R>) -> Request) -> Result<R, BrokerError> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply));
        answer.await.unwrap_or_else(|_| Err(self.has_ended()))
    }

    fn send(&self, request: Request) {
        // A thread that has ended drops the request, and its caller sees the answer missing.
        if self.requests.send(request).is_ok() {
            // Fails only when 2^64 - 2 wakes are pending: then the thread wakes anyway.
            let _ = self.bell.write(1);
        }
    }

    fn has_ended(&self) -> BrokerError {
        crate::broker::check::closed(&self.url)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.send(Request::Stop);
    }
}

/// The thread's own side.
struct Thread {
    store: Store,
    inbox: mpsc::Receiver<Request>,
    wake: Arc<EventFd>,
    alarm: TimerFd,
    alarm_at: Option<Unix>,
    waiters: Waiters,
    url: String,
}

impl Thread {
    fn run(mut self) {
        loop {
            let mut look = match self.sleep() {
                Ok(woken) => woken,
                Err(error) => {
                    // Descriptors of our own that poll(2) refuses: nothing will work from here on.
                    tracing::error!(%error, "the embedded broker can't wait for work");
                    return;
                }
            };
            let _ = self.wake.read(); // back to zero before the requests are taken
            let mut works = Vec::new();
            let mut access = Access::Read;
            while let Ok(request) = self.inbox.try_recv() {
                match request {
                    Request::Run(how, work) => {
                        access = access.max(how);
                        works.push(work);
                    }
                    Request::Ready(queues, reply) => {
                        self.waiters.await_ready(queues, reply);
                        look = true;
                    }
                    Request::Ended(ids, reply) => {
                        self.waiters.await_ended(ids, reply);
                        look = true;
                    }
                    Request::Group(id, beyond, reply) => {
                        self.waiters.await_group(id, beyond, reply);
                        look = true;
                    }
                    Request::CalledOff(claims, reply) => {
                        self.waiters.await_called_off(claims, reply);
                        look = true;
                    }
                    Request::Close(reply) => {
                        self.transact(access, works);
                        return self.close(reply);
                    }
                    Request::Stop => return,
                }
            }
            look |= self.transact(access, works);
            if look {
                self.attend();
            }
        }
    }

    /// Gives up the lease and ends the thread.
    fn close(mut self, reply: Reply<()>) {
        let closed = transact_one(&mut self.store, Access::Write, Store::give_up);
        let closed = closed.map_err(|failure| failure.tell(&self.url));
        drop(self); // before the answer: the file is closed when the caller hears so
        let _ = reply.send(closed);
    }

    /// Waits for a request, the bell or the alarm; whether it was more than a request.
    fn sleep(&self) -> io::Result<bool> {
        let mut fds = vec![
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.alarm.as_fd(), PollFlags::POLLIN),
        ];
        // While nobody waits, the bell may ring.
        if !self.waiters.is_empty()
            && let Some(bell) = self.store.bell.as_fd()
        {
            fds.push(PollFd::new(bell, PollFlags::POLLIN));
        }
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => return Ok(fds.iter().skip(1).any(|fd| fd.any().unwrap_or(true))),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Runs works in one transaction, or, when that fails, each in its own; answers all.
    /// Returns whether they left something to see for those who wait.
    fn transact(&mut self, access: Access, mut works: Vec<Box<dyn Work>>) -> bool {
        if works.is_empty() {
            return false;
        }
        let done = self.store.begin(access).map_err(|failure| (failure, false));
        let done = done.and_then(|()| finish(&mut self.store, &mut works).map_err(|failure| (failure, true)));
        match done {
            Ok(()) => {
                self.store.ring();
                works.into_iter().for_each(|work| work.answer(Ok(())));
                self.store.rings
            }
            Err((_, true)) if works.len() > 1 => {
                let alone = works.into_iter().map(|work| self.transact(access, vec![work]));
                alone.fold(false, |any, rings| any | rings)
            }
            Err((failure, _)) => {
                let error = failure.tell(&self.url);
                works.into_iter().for_each(|work| work.answer(Err(error.clone())));
                false
            }
        }
    }

    /// Looks after those who wait, and sets the alarm for them.
    fn attend(&mut self) {
        if self.waiters.is_empty() {
            return self.set_alarm(None);
        }
        match self.look() {
            Ok(next) => self.set_alarm(next),
            Err(error) => {
                self.waiters.fail(|| error.clone());
                self.set_alarm(None);
            }
        }
    }

    fn look(&mut self) -> Result<Option<Unix>, BrokerError> {
        let tell = |failure: Failure| failure.tell(&self.url);
        self.store.check_file().map_err(tell)?;
        let bell = &mut self.store.bell;
        // Noted before the look, so that a ring during the look causes another one.
        bell.watch()
            .and_then(|()| bell.hush())
            .map_err(|error| watch_failed(&self.url, &error))?;
        self.waiters.look(&mut self.store).map_err(tell)
    }

    /// Sets the alarm; one that went off is silent from then on.
    fn set_alarm(&mut self, at: Option<Unix>) {
        let went_off = self.alarm_at.is_some_and(|at| at <= Unix::now());
        if self.alarm_at == at && !went_off {
            return;
        }
        let set = match at {
            None => self.alarm.unset(),
            Some(at) => {
                // A time of zero would mean: never.
                let at = TimeSpec::milliseconds(at.0.max(1));
                self.alarm
                    .set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
        };
        match set {
            Ok(()) => self.alarm_at = at,
            Err(error) => tracing::error!(%error, "the embedded broker can't set its alarm"),
        }
    }
}

/// Runs works in the transaction that has begun and commits it; undoes it on an error.
fn finish(store: &mut Store, works: &mut [Box<dyn Work>]) -> Result<(), Failure> {
    for work in works {
        if let Err(failure) = work.run(store) {
            store.rollback();
            return Err(failure);
        }
    }
    store.commit()
}

fn watch_failed(url: &str, error: &io::Error) -> BrokerError {
    let reason = match error.raw_os_error() {
        Some(nix::libc::EMFILE) => {
            "this user watches too many files already (raise `fs.inotify.max_user_instances`)".to_owned()
        }
        _ => format!("cannot watch for changes: {error}"),
    };
    BrokerError::Busy {
        url: url.to_owned(),
        reason,
    }
}
