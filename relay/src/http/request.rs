//! What all ways in have in common: who sends, to which project, from where; and how what was read goes on.
//!
//! In this order, so that a request that will be refused costs little: rate of the address, path, room in the spool, credentials, key, headers of the
//! body, body.

use std::sync::Arc;

use axum::http::request::Parts;
use bytes::Bytes;
use picket_common::category::DataCategory;
use picket_common::envelope::Envelope;
use picket_common::ids::{ProjectId, PublicKey};
use picket_common::timestamp::Timestamp;
use tracing::error;

use super::auth::{self, AuthError, Credentials};
use super::body::{BodyReader, IncomingBody};
use super::large_body::on_pool;
use super::origin::Origin;
use super::{Server, access, raw_security, sender};
use crate::crash::{self, Workshop};
use crate::dropped::Dropped;
use crate::limit::memory::Reservation;
use crate::pipeline::Pipeline;
use crate::projects::Project;
use crate::refusal::Refusal;
use crate::submission::{Accepted, Sender, Submission, Taken};
use crate::tally::Tally;

/// A request that ends here.
#[derive(Debug)]
pub(crate) struct Rejection {
    /// Why.
    pub(crate) refusal: Refusal,
    project_id: Option<ProjectId>,
    tally: Counting,
}

/// What a rejected request held.
#[derive(Debug)]
enum Counting {
    /// Nobody looked.
    Unread,
    /// This.
    Read(Tally),
    /// The pipeline has counted it.
    Done,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, project_id: None, tally: Counting::Unread }
    }
}

impl From<AuthError> for Rejection {
    fn from(error: AuthError) -> Self {
        Refusal::from(error).into()
    }
}

impl Rejection {
    /// Of a request whose content was read.
    pub(crate) const fn of_content(project_id: ProjectId, tally: Tally, refusal: Refusal) -> Self {
        Self { refusal, project_id: Some(project_id), tally: Counting::Read(tally) }
    }

    /// How much it matters beside other rejections of the same request: what passes tells the client to try again.
    pub(crate) const fn weight(&self) -> u8 {
        match self.refusal {
            Refusal::Unavailable { .. } | Refusal::SpoolFull => 2,
            Refusal::RateLimited { .. } => 1,
            _ => 0,
        }
    }

    /// Counts what was refused, as one item of `unread` where nobody looked inside; on disk when it returns if it concerns a
    /// project.
    pub(crate) async fn count(&self, server: &Server, unread: DataCategory) {
        match &self.tally {
            Counting::Unread => server.outcomes.refused(self.project_id, &Tally::one(unread), &self.refusal),
            Counting::Read(tally) => server.outcomes.refused(self.project_id, tally, &self.refusal),
            Counting::Done => {}
        }
        if self.project_id.is_some() {
            server.outcomes.settle().await;
        }
    }
}

/// Credentials that were found good for a project.
#[derive(Debug, Clone)]
pub(crate) struct Authorised {
    /// What the request showed.
    pub(crate) credentials: Credentials,
    /// The project of its key.
    pub(crate) project: Arc<Project>,
}

impl Authorised {
    /// The project's id.
    pub(crate) fn project_id(&self) -> ProjectId {
        self.project.config.id
    }

    /// Makes a refusal one that is counted under the project, with the request's content unread.
    pub(crate) fn rejection(&self) -> impl Fn(Refusal) -> Rejection + use<> {
        let project_id = Some(self.project_id());
        move |refusal| Rejection { refusal, project_id, tally: Counting::Unread }
    }
}

/// A request whose path makes sense, while there is room to spool what it brings.
pub(crate) struct Request<'a> {
    pub(crate) server: &'a Arc<Server>,
    pub(crate) head: &'a Parts,
    path_project: Option<ProjectId>,
    pub(crate) received_at: Timestamp,
}

impl<'a> Request<'a> {
    /// Starts with the client's address, path and spool.
    ///
    /// # Errors
    /// 400 for a path that names no project; 429 for an address that makes too many requests, and while the spool is full;
    /// 503 while it can't write.
    pub(crate) fn new(server: &'a Arc<Server>, head: &'a Parts, path_project: Option<&str>) -> Result<Self, Refusal> {
        server.pipeline.rates().check_address(sender::address_of(head, &server.config.trusted_proxies))?;
        let path_project = path_project
            .map(|text| text.parse().map_err(|error| Refusal::malformed("project_id", format!("{error} in the path"))))
            .transpose()?;
        server.pipeline.check_room()?;
        Ok(Self { server, head, path_project, received_at: (server.clock)() })
    }

    /// Looks up the credentials in head or query, which must be there.
    ///
    /// # Errors
    /// 401 without usable credentials; what [`Self::admit`] refuses.
    pub(crate) fn authorise(&self) -> Result<Authorised, Refusal> {
        self.authorise_by(None)
    }

    /// As [`Self::authorise`], where the path may hold a key too.
    ///
    /// # Errors
    /// As [`Self::authorise`]; 401 if path and head both hold credentials.
    pub(crate) fn authorise_by(&self, path_key: Option<&str>) -> Result<Authorised, Refusal> {
        let credentials = auth::of_request(&self.head.headers, self.head.uri.query(), path_key)?;
        self.admit(credentials.ok_or(AuthError::Missing)?)
    }

    /// Looks up these credentials.
    ///
    /// # Errors
    /// What [`access::authorise`] refuses; 429 for a key that is used too often.
    pub(crate) fn admit(&self, credentials: Credentials) -> Result<Authorised, Refusal> {
        let projects = self.server.projects.current();
        let origin = Origin::of_request(&self.head.headers);
        let project =
            access::authorise(projects.as_deref(), &credentials.public_key, self.path_project, origin.as_ref())?;
        self.server.pipeline.rates().check_key(&credentials.public_key, project.config.id)?;
        Ok(Authorised { credentials, project })
    }

    /// A reader of the body, within `limit` decompressed bytes.
    ///
    /// # Errors
    /// As [`BodyReader::start`].
    pub(crate) fn reader<'b>(&self, incoming: &'b mut IncomingBody, limit: usize) -> Result<BodyReader<'b>, Refusal> {
        BodyReader::start(incoming, &self.head.headers, limit, &self.server.budget, &self.server.config)
    }

    /// The whole body, within `limit` decompressed bytes.
    ///
    /// # Errors
    /// As [`BodyReader`]; 400 if there is no body.
    pub(crate) async fn body(
        &self,
        incoming: &mut IncomingBody,
        limit: usize,
    ) -> Result<(Bytes, Reservation), Refusal> {
        self.reader(incoming, limit)?.read_to_end().await
    }

    /// Gives what was read to the pipeline; a crash in it is taken apart first. `memory` is what the payloads are accounted to.
    ///
    /// What takes long is done in a task of its own, which outlives the connection: the client has sent everything, and what
    /// becomes of it must not depend on its patience. There is one for each such request, so their number is bounded by what the
    /// bodies are accounted to; when the relay stops, the spool refuses what comes too late, and that is counted.
    ///
    /// # Errors
    /// What taking a crash or a browser's report apart refuses; what the pipeline refuses. It is counted then.
    pub(crate) async fn take(
        &self,
        authorised: &Authorised,
        envelope: Envelope,
        memory: impl Send + 'static,
    ) -> Result<Taken, Rejection> {
        let way = self.way(authorised);
        if crash::holds_crash(&envelope) {
            let workshop = self.server.workshop();
            return way.in_own_task(|way| way.take_crash(envelope, workshop), memory).await;
        }
        if Pipeline::takes_long(&envelope) {
            return way.in_own_task(|way| way.take(envelope), memory).await;
        }
        way.take(envelope).await
    }

    /// As [`Self::take`], of a crash that was taken apart in this workshop.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) async fn take_expanded(
        &self,
        authorised: &Authorised,
        envelope: Envelope,
        mut workshop: Workshop,
    ) -> Result<Taken, Rejection> {
        let way = self.way(authorised);
        let dropped = workshop.take_dropped();
        way.in_own_task(|way| way.take_rest(envelope, dropped), workshop).await
    }

    fn way(&self, authorised: &Authorised) -> Way {
        let sender = sender::of_request(self.head, &self.server.config.trusted_proxies);
        Way {
            server: Arc::clone(self.server),
            project: Arc::clone(&authorised.project),
            public_key: authorised.credentials.public_key,
            received_at: self.received_at,
            client: authorised.credentials.client.clone().or_else(|| sender.user_agent.clone()),
            sender,
        }
    }
}

/// The way of a request's content from here to the pipeline, with all that is known of its sender.
struct Way {
    server: Arc<Server>,
    project: Arc<Project>,
    public_key: PublicKey,
    received_at: Timestamp,
    client: Option<Box<str>>,
    sender: Sender,
}

// === impl Way ===

impl Way {
    async fn in_own_task<F: Future<Output = Result<Taken, Rejection>> + Send + 'static>(
        self,
        work: impl FnOnce(Self) -> F,
        memory: impl Send + 'static,
    ) -> Result<Taken, Rejection> {
        let work = work(self);
        let task = tokio::spawn(async move {
            let _memory = memory;
            work.await
        });
        task.await.unwrap_or_else(|failure| {
            error!(%failure, "taking a request ended unexpectedly");
            Err(Refusal::unavailable("internal", "the relay failed to process the request").into())
        })
    }

    /// The workshop stands for what of the crash is in memory.
    async fn take_crash(self, envelope: Envelope, mut workshop: Workshop) -> Result<Taken, Rejection> {
        let tally = Tally::of(&envelope);
        let expanded = on_pool(move || {
            let envelope = crash::expand(envelope, &mut workshop)?;
            Ok((envelope, workshop))
        });
        match expanded.await {
            Ok((envelope, mut workshop)) => {
                let dropped = workshop.take_dropped();
                self.take_rest(envelope, dropped).await
            }
            Err(refusal) => Err(self.refused(&tally, refusal)),
        }
    }

    /// What is left of a crash; parts of it that could not be read are counted with it.
    async fn take_rest(self, envelope: Envelope, dropped: Dropped) -> Result<Taken, Rejection> {
        let server = Arc::clone(&self.server);
        let counts = server.outcomes.counts_of(Some(self.project.config.id), &dropped);
        let has_dropped = !counts.is_empty();
        server.outcomes.count(counts);
        let taken = self.take(envelope).await;
        if has_dropped {
            server.outcomes.settle().await;
        }
        taken
    }

    async fn take(self, mut envelope: Envelope) -> Result<Taken, Rejection> {
        let user_agent = self.sender.user_agent.as_deref();
        if let Err(refusal) = raw_security::convert(&mut envelope, user_agent, self.received_at, &self.server.limits) {
            return Err(self.refused(&Tally::of(&envelope), refusal));
        }
        let Self { server, project, public_key, received_at, client, sender } = self;
        let project_id = project.config.id;
        let submission = Submission { project, public_key, received_at, client, sender, envelope };
        let taken = server.pipeline.take(Accepted(submission)).await;
        taken.map_err(|refusal| Rejection { refusal, project_id: Some(project_id), tally: Counting::Done })
    }

    /// Counted at once: nobody may be there any more to do it.
    fn refused(&self, tally: &Tally, refusal: Refusal) -> Rejection {
        let project_id = Some(self.project.config.id);
        self.server.outcomes.refused(project_id, tally, &refusal);
        Rejection { refusal, project_id, tally: Counting::Done }
    }
}
