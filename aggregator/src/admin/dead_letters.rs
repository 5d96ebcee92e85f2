//! Dead letters, as an operator works with them.

use super::{Chosen, Reply, ShownDeadLetter};
use crate::journal::{Journal, JournalError};

/// Most letters in one answer: each has a few hundred bytes, and an answer is one frame.
const MAX_LISTED: usize = 10_000;
/// Most bytes of a letter that are shown.
const MAX_SHOWN_BYTES: usize = 1024 * 1024;

/// The newest letters.
pub(super) async fn list(journal: &Journal) -> Result<Reply, JournalError> {
    let letters = off_the_way(journal, |journal| journal.dead_letters(MAX_LISTED)).await?;
    Ok(Reply::DeadLetters { letters, totals: journal.dead_letter_totals() })
}

/// One letter and what it holds.
pub(super) async fn show(journal: &Journal, id: u64) -> Result<Reply, JournalError> {
    let Some((letter, bytes)) = off_the_way(journal, move |journal| journal.dead_letter(id)).await? else {
        return Ok(none(id));
    };
    let shown = bytes.get(..MAX_SHOWN_BYTES).unwrap_or(&bytes);
    Ok(Reply::DeadLetter(Box::new(ShownDeadLetter { letter, text: String::from_utf8_lossy(shown).into_owned() })))
}

/// Appends letters to the journal again, one by one; of all, those that can't be are passed over.
pub(super) async fn replay(journal: &Journal, chosen: Chosen) -> Result<Reply, JournalError> {
    if let Chosen::One(id) = chosen {
        return Ok(match journal.replay_dead_letter(id).await {
            Ok(_) => Reply::Replayed(1),
            Err(refused) => Reply::Failed { detail: refused.to_string() },
        });
    }
    let (mut replayed, mut last_refusal) = (0, None);
    for letter in off_the_way(journal, |journal| journal.dead_letters(usize::MAX)).await? {
        match journal.replay_dead_letter(letter.id).await {
            Ok(_) => replayed += 1,
            Err(refused) => last_refusal = Some(refused),
        }
    }
    Ok(match last_refusal {
        Some(refused) => Reply::Failed { detail: format!("{replayed} are replayed, others are not: {refused}") },
        None => Reply::Replayed(replayed),
    })
}

/// Forgets letters.
pub(super) async fn forget(journal: &Journal, chosen: Chosen) -> Result<Reply, JournalError> {
    let dropped = off_the_way(journal, move |journal| match chosen {
        Chosen::One(id) => Ok(u64::from(journal.drop_dead_letter(id)?)),
        Chosen::All => {
            let mut dropped = 0;
            for letter in journal.dead_letters(usize::MAX)? {
                dropped += u64::from(journal.drop_dead_letter(letter.id)?);
            }
            Ok(dropped)
        }
    })
    .await?;
    Ok(match chosen {
        Chosen::One(id) if dropped == 0 => none(id),
        _ => Reply::Dropped(dropped),
    })
}

fn none(id: u64) -> Reply {
    let detail = format!("there is no dead letter {id}; `picket-aggregator dead-letter list` shows them");
    Reply::Failed { detail }
}

/// The journal reads and writes the disk.
async fn off_the_way<T: Send + 'static>(
    journal: &Journal,
    work: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let journal = journal.clone();
    let working = tokio::task::spawn_blocking(move || work(&journal));
    working.await.unwrap_or_else(|lost| Err(JournalError::Thread(std::io::Error::other(lost))))
}
