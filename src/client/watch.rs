//! A task message by message: over gRPC by the stream `WatchTask`; over D-Bus, where that does not exist,
//! and once the stream's connection has broken, by asking again in growing pauses. What is done with the
//! messages is the user's matter.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::json;

use super::retry::Verdict;
use super::tasks::{TASKS, outcome};
use super::{AgentClient, Answer, CallOptions, Error, Request, Responses, TasksClient, Way};
use crate::proto::opdbus::v1::watch_task_response::Event;
use crate::proto::opdbus::v1::{ReadTaskResponse, WatchTaskRequest, WatchTaskResponse};

/// The first pause before a task that had nothing is asked again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// What happens to a task: its messages as JSON, what is missing of them, and the task whenever it
/// has changed, last as it ended.
#[derive(Debug)]
pub struct TaskEvents<'a> {
    /// What comes by itself; `None`: nothing any more.
    told: Option<Responses<WatchTaskResponse>>,
    asked: Asked<'a>,
}

/// Reading by questions.
#[derive(Debug)]
struct Asked<'a> {
    client: &'a AgentClient,
    options: CallOptions,
    id: String,
    /// The number of the next message.
    next: u64,
    pause: Option<Duration>,
    events: VecDeque<Event>,
    ended: bool,
}

impl AgentClient {
    /// What happens to a task, from the message with the number `from` on; 0: the oldest that is kept.
    ///
    /// # Errors
    /// As [`AgentClient::task`].
    ///
    /// # Cancel safety
    /// The call is given up; the task goes on.
    pub async fn watch_task(
        &self,
        id: &str,
        from: u64,
        options: &CallOptions,
    ) -> Result<TaskEvents<'_>, Error> {
        let told = match self.way() {
            Way::Grpc => {
                let request = WatchTaskRequest { id: id.to_owned(), from_seq: from, json: true };
                let tasks = TasksClient::new(self.clone());
                Some(tasks.watch_task(Request::new(request)).await?)
            }
            Way::Dbus | Way::Legacy => None,
        };
        let asked = Asked {
            client: self,
            options: options.clone(),
            id: id.to_owned(),
            next: from,
            pause: None,
            events: VecDeque::new(),
            ended: false,
        };
        Ok(TaskEvents { told, asked })
    }
}

impl TaskEvents<'_> {
    /// What happens next; `None` after the end.
    ///
    /// # Errors
    /// As [`AgentClient::call_json`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        while let Some(messages) = &mut self.told {
            match messages.message().await {
                Ok(None) => return Ok(None),
                Ok(Some(event)) => {
                    // An event that this build does not know comes from a newer service.
                    let Some(event) = event.event else { continue };
                    self.asked.passed(&event);
                    return Ok(Some(event));
                }
                Err(error) if Verdict::on(&error).is_ways => self.told = None,
                Err(error) => return Err(error),
            }
        }
        self.asked.next().await
    }
}

impl Asked<'_> {
    /// An event came: what is asked for comes after it.
    fn passed(&mut self, event: &Event) {
        match event {
            Event::Gap(gap) => self.next = gap.to.saturating_add(1),
            Event::Message(message) => self.next = message.seq.saturating_add(1),
            Event::Task(_) => {}
        }
    }

    async fn next(&mut self) -> Result<Option<Event>, Error> {
        while self.events.is_empty() && !self.ended {
            if let Some(pause) = self.pause {
                tokio::time::sleep(pause).await;
            }
            self.read().await?;
        }
        Ok(self.events.pop_front())
    }

    /// Asks once.
    async fn read(&mut self) -> Result<(), Error> {
        let request = json!({ "id": self.id, "from_seq": self.next.to_string(), "json": true });
        let json =
            self.client.call_json(TASKS, "ReadTask", &request.to_string(), &self.options).await?;
        let answer: ReadTaskResponse = Answer::new("ReadTaskResponse", json)?.message;
        let is_empty = answer.messages.is_empty();
        let longer = |pause: Duration| pause.saturating_mul(2).min(LONGEST_PAUSE);
        self.pause = is_empty.then(|| self.pause.map_or(FIRST_PAUSE, longer));
        let gap = answer.gap.map(Event::Gap);
        for event in gap.into_iter().chain(answer.messages.into_iter().map(Event::Message)) {
            self.passed(&event);
            self.events.push_back(event);
        }
        if let Some(task) = answer.task {
            self.ended = outcome(&task).is_some() && (is_empty || task.last_seq < self.next);
            self.events.push_back(Event::Task(task));
        }
        Ok(())
    }
}
