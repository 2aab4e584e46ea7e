//! Rules of deliveries, and a model: a server whose channels break at any moment, and a supervisor that begins, ends and gives
//! back what it has.

use proptest::prelude::*;

use super::*;

fn taken(id: &str, place: Place, token: Option<Token>) -> Taken {
    Taken {
        pool: pool(),
        identity: identity(id, 0),
        returns: 0,
        expires: None,
        since: Mono::default(),
        job: None,
        place: Some(place),
        token,
        has_begun: false,
        is_orphan: false,
        was_stopped: false,
        is_recalled: false,
    }
}

fn begun(id: &str, tag: u64) -> Taken {
    Taken {
        has_begun: true,
        ..taken(id, place(1, tag), Some(Token(tag)))
    }
}

fn pool() -> PoolName {
    PoolName::new("default").unwrap()
}

fn identity(id: &str, retries: u32) -> Identity {
    Identity {
        id: JobId::new(id).unwrap(),
        retries,
        was_delayed: false,
    }
}

fn place(channel: u64, tag: u64) -> Place {
    Place {
        channel,
        tag,
        consumer: 1,
    }
}

#[test]
fn what_has_begun_waits_for_its_copy() {
    let (mut all, now) = (Deliveries::default(), Mono(0));
    all.add(1, begun("runs", 1));
    all.add(2, taken("waits here", place(1, 2), None));
    let lost = all.lose(1, now);
    assert_eq!((lost.forgotten, lost.recalled), (HashSet::from([2]), vec![]));
    assert_eq!(all.copy_of(&identity("waits here", 0), now), CopyOf::Nothing);
    assert_eq!(
        all.copy_of(&identity("runs", 1), now),
        CopyOf::Nothing,
        "a retry is another message"
    );
    assert_eq!(all.copy_of(&identity("runs", 0), now), CopyOf::Waiting(1));
    all.adopt(1, &pool(), place(2, 7), 1);
    assert_eq!(all.copy_of(&identity("runs", 0), now), CopyOf::Nothing, "it came");
    assert_eq!(all.end(1, Ended::Acknowledged), Some(place(2, 7)));
    assert!(all.remove(1).is_some() && all.remove(1).is_none());
}

#[test]
fn what_has_not_begun_is_recalled_once() {
    let (mut all, now) = (Deliveries::default(), Mono(0));
    all.add(1, taken("unknown", place(1, 1), Some(Token(5))));
    assert_eq!(all.lose(1, now).recalled, [Token(5)]);
    assert_eq!(all.copy_of(&identity("unknown", 0), now), CopyOf::Waiting(1));
    all.adopt(1, &pool(), place(2, 1), 1);
    assert_eq!(all.lose(2, now).recalled, [], "its supervisor answers yet");
    all.adopt(1, &pool(), place(3, 1), 2);
    all.given_back(1);
    all.get_mut(1).unwrap().token = Some(Token(6));
    assert_eq!(all.lose(3, now).recalled, [Token(6)]);
    all.remove(1);
    assert_eq!(
        all.copy_of(&identity("unknown", 0), now),
        CopyOf::Nothing,
        "nobody has it"
    );
}

#[test]
fn of_a_task_that_was_sent_twice_each_copy_has_its_own() {
    let (mut all, now) = (Deliveries::default(), Mono(0));
    all.add(1, begun("twice", 1));
    all.add(2, begun("twice", 2));
    all.lose(1, now);
    assert_eq!(all.copy_of(&identity("twice", 0), now), CopyOf::Waiting(1));
    all.adopt(1, &pool(), place(2, 1), 1);
    assert_eq!(all.copy_of(&identity("twice", 0), now), CopyOf::Waiting(2));
    all.remove(2);
    assert_eq!(all.copy_of(&identity("twice", 0), now), CopyOf::Nothing);
}

#[test]
fn a_copy_of_what_has_just_ended_ends_so_too() {
    let (mut all, now) = (Deliveries::default(), Mono(0));
    all.add(1, begun("ended", 1));
    assert_eq!(all.end(1, Ended::Acknowledged), Some(place(1, 1)));
    assert_eq!(all.end(1, Ended::Acknowledged), None);
    all.remove(1);
    assert_eq!(
        all.copy_of(&identity("ended", 0), now),
        CopyOf::Nothing,
        "its channel is well"
    );
    let lost = all.lose(1, now);
    assert!(lost.forgotten.is_empty() && lost.recalled.is_empty());
    assert_eq!(all.copy_of(&identity("ended", 0), now + DOUBT), CopyOf::Nothing);
    all.add(2, begun("ended", 2));
    all.end(2, Ended::Rejected);
    all.lose(1, now);
    assert_eq!(
        all.copy_of(&identity("ended", 0), now),
        CopyOf::Ended(Ended::Rejected)
    );
    assert_eq!(
        all.copy_of(&identity("ended", 0), now),
        CopyOf::Nothing,
        "one copy comes"
    );
}

#[test]
fn what_went_into_the_chain_of_delays_does_so_once() {
    let (mut all, now) = (Deliveries::default(), Mono(0));
    let out = Identity {
        was_delayed: true,
        ..identity("later", 0)
    };
    for number in [1, 2] {
        all.add(number, begun("later", 1));
    }
    all.lose(1, now);
    all.adopt(1, &pool(), place(2, 1), 1);
    assert_eq!(all.end_unheard(1, Ended::Acknowledged, now), Some(place(2, 1)));
    assert_eq!(
        all.end_unheard(2, Ended::Acknowledged, now),
        None,
        "its channel is lost"
    );
    assert_eq!(all.copy_of(&out, now), CopyOf::Nothing, "it is due");
    let ended = CopyOf::Ended(Ended::Acknowledged);
    assert_eq!(all.copy_of(&identity("later", 0), now), ended);
    assert!(all.all.is_empty() && all.waiting.is_empty());
}

/// What happens next. The number chooses of whom it is told.
#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver,
    /// A worker reads a job; its supervisor sees that later.
    Read(usize),
    /// The supervisor says so to the source.
    TellBegun(usize),
    End(usize),
    /// The supervisor hears that a job is recalled.
    HearRecall(usize),
    /// The channel is lost, and of the last acknowledgements so many did not arrive.
    Lose(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Deliver),
        3 => any::<usize>().prop_map(Step::Read),
        2 => any::<usize>().prop_map(Step::TellBegun),
        2 => any::<usize>().prop_map(Step::End),
        2 => any::<usize>().prop_map(Step::HearRecall),
        2 => (0..4_usize).prop_map(Step::Lose),
    ];
    proptest::collection::vec(step, 0..200)
}

/// A message at the server.
#[derive(Clone, Debug)]
struct Message {
    id: String,
    is_redelivered: bool,
}

/// A job that the supervisor has.
#[derive(Debug)]
struct InHand {
    number: i64,
    id: String,
    acks_early: bool,
    is_read: bool,
    is_told: bool,
}

#[derive(Debug, Default)]
struct Model {
    // The server.
    ready: VecDeque<Message>,
    unacked: Vec<(u64, Message)>,
    channel: u64,
    last_tag: u64,
    /// Acknowledgements on this channel that may be on their way still.
    acked: Vec<Message>,
    // The source.
    deliveries: Deliveries,
    last_number: i64,
    /// Ended, and their copies did not come yet.
    pending: HashSet<i64>,
    // The supervisor.
    jobs: Vec<InHand>,
    recalls: VecDeque<Token>,
    ended: Vec<String>,
}

impl Model {
    fn step(&mut self, step: Step) {
        match step {
            Step::Deliver => self.deliver(),
            Step::Read(which) => self.read(which),
            Step::TellBegun(which) => self.tell_begun(which),
            Step::End(which) => self.end(which),
            Step::HearRecall(which) => {
                if !self.recalls.is_empty() {
                    let at = which % self.recalls.len();
                    self.hear_recall(at);
                }
            }
            Step::Lose(unheard) => self.lose(unheard),
        }
    }

    fn deliver(&mut self) {
        let Some(message) = self.ready.pop_front() else {
            return;
        };
        self.last_tag += 1;
        let place = place(self.channel, self.last_tag);
        self.unacked.push((self.last_tag, message.clone()));
        let copy_of = match message.is_redelivered {
            true => self.deliveries.copy_of(&identity(&message.id, 0), Mono(0)),
            false => CopyOf::Nothing,
        };
        match copy_of {
            CopyOf::Nothing => self.hand_out(&message.id, place),
            CopyOf::Ended(how) => {
                let identity = identity(&message.id, 0);
                self.deliveries.note_end(place, identity, how);
                self.acknowledge(place);
            }
            CopyOf::Waiting(number) => {
                self.deliveries.adopt(number, &pool(), place, 0);
                let of_it = self.jobs.iter().find(|job| job.number == number);
                let is_acked = of_it.is_some_and(|job| job.acks_early && job.is_told);
                let has_ended = self.pending.remove(&number);
                assert_eq!(has_ended, of_it.is_none());
                if has_ended || is_acked {
                    let place = self.deliveries.end(number, Ended::Acknowledged).unwrap();
                    self.acknowledge(place);
                }
                if has_ended {
                    self.deliveries.remove(number);
                }
            }
        }
    }

    fn hand_out(&mut self, id: &str, place: Place) {
        self.last_number += 1;
        let number = self.last_number;
        let token = Token(u64::try_from(number).unwrap());
        self.deliveries.add(number, taken(id, place, Some(token)));
        self.jobs.push(InHand {
            number,
            id: id.to_owned(),
            acks_early: id.ends_with("early"),
            is_read: false,
            is_told: false,
        });
    }

    fn read(&mut self, which: usize) {
        let unread: Vec<usize> = (0..self.jobs.len())
            .filter(|at| !self.jobs[*at].is_read)
            .collect();
        let Some(at) = unread.get(which % unread.len().max(1)) else {
            return;
        };
        let id = self.jobs[*at].id.clone();
        let runs = self.jobs.iter().any(|job| job.is_read && job.id == id);
        assert!(!runs && !self.ended.contains(&id), "`{id}` runs a second time");
        self.jobs[*at].is_read = true;
    }

    fn tell_begun(&mut self, which: usize) {
        let mut untold = self.jobs.iter_mut().filter(|job| job.is_read && !job.is_told);
        let Some(job) = untold.nth(which % 3) else {
            return;
        };
        job.is_told = true;
        let (number, acks_early) = (job.number, job.acks_early);
        self.deliveries.get_mut(number).unwrap().has_begun = true;
        if acks_early && let Some(place) = self.deliveries.end(number, Ended::Acknowledged) {
            self.acknowledge(place);
        }
    }

    fn end(&mut self, which: usize) {
        let running: Vec<usize> = (0..self.jobs.len()).filter(|at| self.jobs[*at].is_read).collect();
        let Some(at) = running.get(which % running.len().max(1)) else {
            return;
        };
        let job = self.jobs.remove(*at);
        self.ended.push(job.id);
        if self.deliveries.get(job.number).unwrap().is_orphan {
            self.pending.insert(job.number);
            return;
        }
        if let Some(place) = self.deliveries.end(job.number, Ended::Acknowledged) {
            self.acknowledge(place);
        }
        self.deliveries.remove(job.number);
    }

    /// What was not read goes back. What was runs on.
    fn hear_recall(&mut self, at: usize) {
        let token = self.recalls.remove(at).unwrap();
        let is_it = |job: &InHand| u64::try_from(job.number).unwrap() == token.0;
        let Some(at) = self.jobs.iter().position(|job| is_it(job) && !job.is_read) else {
            return;
        };
        let number = self.jobs.remove(at).number;
        let taken = self.deliveries.remove(number).unwrap();
        if let Some(place) = taken.place {
            let message = self.take_unacked(place);
            self.ready.push_front(message);
        }
    }

    fn lose(&mut self, unheard: usize) {
        let heard = self.acked.len().saturating_sub(unheard);
        let again = self.acked.split_off(heard);
        let unacked = std::mem::take(&mut self.unacked);
        for mut message in unacked.into_iter().map(|(_, message)| message).chain(again) {
            message.is_redelivered = true;
            self.ready.push_front(message);
        }
        self.acked.clear();
        let lost = self.deliveries.lose(self.channel, Mono(0));
        assert!(lost.forgotten.is_empty(), "all was handed out");
        self.recalls.extend(lost.recalled);
        self.channel += 1;
    }

    /// The server hears of it, unless the channel is lost now.
    fn acknowledge(&mut self, place: Place) {
        let message = self.take_unacked(place);
        self.acked.push(message);
    }

    fn take_unacked(&mut self, place: Place) -> Message {
        assert_eq!(place.channel, self.channel, "this channel is lost");
        let at = self
            .unacked
            .iter()
            .position(|(tag, _)| *tag == place.tag)
            .unwrap();
        let (_, mut message) = self.unacked.remove(at);
        message.is_redelivered = true;
        message
    }

    /// Nothing breaks any more.
    fn run_to_the_end(&mut self) {
        for _ in 0..1000 {
            for step in [
                Step::HearRecall(0),
                Step::Deliver,
                Step::Read(0),
                Step::TellBegun(0),
                Step::End(0),
            ] {
                self.step(step);
            }
        }
    }
}

proptest! {
    #[test]
    fn each_task_runs_once_whenever_channels_break(steps in steps()) {
        let mut model = Model::default();
        let ids = (0..12).map(|at| format!("{at} {}", if at % 3 == 0 { "early" } else { "late" }));
        let mut ids: Vec<String> = ids.collect();
        let message = |id: &String| Message { id: id.clone(), is_redelivered: false };
        model.ready = ids.iter().map(message).collect();
        for step in steps {
            model.step(step);
        }
        model.run_to_the_end();
        model.ended.sort();
        ids.sort();
        prop_assert_eq!(&model.ended, &ids, "none is lost, and none ran twice");
        prop_assert!(model.jobs.is_empty() && model.pending.is_empty() && model.recalls.is_empty());
        prop_assert!(model.ready.is_empty() && model.unacked.is_empty());
        prop_assert!(model.deliveries.all.is_empty() && model.deliveries.waiting.is_empty(), "nothing is kept");
    }
}
