//! The numbers of the clients that the ledger knows, and how many of them it keeps apart. What they do is
//! not known here.

use std::collections::HashMap;

use crate::proto::opdbus::v1::ClientIdentity;

/// How many clients are kept apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// In all.
    pub(super) all: usize,
    /// Of one user.
    pub(super) per_uid: usize,
}

/// The clients.
#[derive(Debug, Default)]
pub(super) struct Clients {
    ids: HashMap<ClientIdentity, i64>,
    per_uid: HashMap<Option<u32>, usize>,
    /// The greatest number that was given.
    last: i64,
}

impl Clients {
    /// Takes up a client that has its number from before.
    pub(super) fn known(&mut self, id: i64, client: ClientIdentity) {
        *self.per_uid.entry(uid(&client)).or_default() += 1;
        self.ids.insert(client, id);
        self.last = self.last.max(id);
    }

    /// The number of a client, and whom it stands for: itself or, if there is no room for it, the others.
    pub(super) fn id(&mut self, client: ClientIdentity, room: Room) -> (i64, ClientIdentity) {
        let of_user = self.per_uid.get(&uid(&client)).copied().unwrap_or_default();
        let client = match self.ids.get(&client) {
            Some(id) => return (*id, client),
            // The row of the others itself needs room as well, though not the user's.
            None if self.ids.len() >= room.all => others(None),
            None if client.others || of_user < room.per_uid => client,
            None => others(uid(&client)),
        };
        if let Some(id) = self.ids.get(&client) {
            return (*id, client);
        }
        let id = self.last + 1;
        self.known(id, client.clone());
        (id, client)
    }

    /// Forgets clients of whom nothing is left.
    pub(super) fn forget(&mut self, ids: &[i64]) {
        let Self { ids: known, per_uid, .. } = self;
        known.retain(|client, id| {
            let stays = !ids.contains(id);
            if !stays && let Some(count) = per_uid.get_mut(&uid(client)) {
                *count = count.saturating_sub(1);
            }
            stays
        });
        per_uid.retain(|_, count| *count > 0);
    }
}

/// All further clients of a user, or of everybody.
pub(super) fn others(uid: Option<u32>) -> ClientIdentity {
    ClientIdentity {
        uid: uid.unwrap_or_default(),
        unknown: uid.is_none(),
        others: true,
        ..ClientIdentity::default()
    }
}

const fn uid(client: &ClientIdentity) -> Option<u32> {
    if client.unknown { None } else { Some(client.uid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(uid: u32, name: &str) -> ClientIdentity {
        ClientIdentity { uid, name: name.to_owned(), ..ClientIdentity::default() }
    }

    #[test]
    fn whoever_has_too_many_names_is_others_of_his_and_takes_nobodys_room() {
        let room = Room { all: 6, per_uid: 2 };
        let mut clients = Clients::default();
        let first = clients.id(named(7, "a"), room);
        assert_eq!(clients.id(named(7, "a"), room), first, "it is the same client");
        clients.id(named(7, "b"), room);
        for name in ["c", "d"] {
            assert_eq!(clients.id(named(7, name), room).1, others(Some(7)), "{name}");
        }
        assert_eq!(clients.id(named(8, "a"), room).1, named(8, "a"));
        assert_eq!(clients.id(named(9, "a"), room).1, named(9, "a"));
        assert_eq!(clients.id(named(10, "a"), room).1, named(10, "a"));
        assert_eq!(clients.id(named(11, "a"), room).1, others(None), "there is no room at all");
        assert_eq!(clients.ids.len(), 7, "the last row stands for everybody else");

        clients.forget(&[first.0]);
        let again = clients.id(named(7, "a"), Room { all: 100, ..room });
        assert_eq!(again.1, others(Some(7)), "two of the user's are left: one of them the others");
        assert!(!clients.ids.contains_key(&named(7, "a")));
    }
}
