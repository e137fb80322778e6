//! The closed sets of label values.

/// A stage of every call, in order; the `stage` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In the transport: reading the request and finding the operation.
    Lookup,
    /// Checking whether the caller may.
    Authorize,
    /// Waiting for a place.
    Admit,
    /// In the agent.
    Run,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 4] = [Self::Lookup, Self::Authorize, Self::Admit, Self::Run];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Authorize => "authorize",
            Self::Admit => "admit",
            Self::Run => "run",
        }
    }
}

/// Why a call was refused before an agent saw it; the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// There is no such agent, object, interface or service.
    UnknownAgent,
    /// There is no such operation.
    UnknownOperation,
    /// The request is not what the operation takes.
    InvalidRequest,
    /// The request is larger than the transport takes.
    TooLarge,
    /// The caller may not.
    Denied,
    /// Somebody must approve the call first, because the policy says so.
    ApprovalRequired,
    /// Nobody vouches for the caller.
    Unauthenticated,
    /// The caller has no such session.
    UnknownSession,
    /// The queue of the whole service was full.
    QueueFull,
    /// The queue of the agent was full.
    AgentQueueFull,
    /// The queue of the caller was full.
    CallerQueueFull,
    /// The caller's requests that run or wait had too many bytes.
    CallerBytes,
    /// The caller had too many of something else: open requests, calls that wait, batches, request ids.
    CallerLimit,
    /// The caller made too many calls in a short time.
    Rate,
    /// The time was over before the call had a place.
    Deadline,
    /// The service is stopping.
    Draining,
    /// The operation is no longer served on D-Bus for this client.
    Migrated,
}

/// Every reason, in the order of the enum.
pub const REJECTIONS: [Rejection; 17] = [
    Rejection::UnknownAgent,
    Rejection::UnknownOperation,
    Rejection::InvalidRequest,
    Rejection::TooLarge,
    Rejection::Denied,
    Rejection::ApprovalRequired,
    Rejection::Unauthenticated,
    Rejection::UnknownSession,
    Rejection::QueueFull,
    Rejection::AgentQueueFull,
    Rejection::CallerQueueFull,
    Rejection::CallerBytes,
    Rejection::CallerLimit,
    Rejection::Rate,
    Rejection::Deadline,
    Rejection::Draining,
    Rejection::Migrated,
];

impl Rejection {
    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownAgent => "unknown_agent",
            Self::UnknownOperation => "unknown_operation",
            Self::InvalidRequest => "invalid_request",
            Self::TooLarge => "too_large",
            Self::Denied => "denied",
            Self::ApprovalRequired => "approval_required",
            Self::Unauthenticated => "unauthenticated",
            Self::UnknownSession => "unknown_session",
            Self::QueueFull => "queue_full",
            Self::AgentQueueFull => "agent_queue_full",
            Self::CallerQueueFull => "caller_queue_full",
            Self::CallerBytes => "caller_bytes",
            Self::CallerLimit => "caller_limit",
            Self::Rate => "rate",
            Self::Deadline => "deadline",
            Self::Draining => "draining",
            Self::Migrated => "migrated",
        }
    }
}

/// Why a session ended; the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Its client asked for it.
    Asked,
    /// It was not used for its idle time.
    Idle,
    /// What held it went, and it was not resumed in time.
    Disconnected,
}

impl SessionEnd {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Asked, Self::Idle, Self::Disconnected];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Idle => "idle",
            Self::Disconnected => "disconnected",
        }
    }
}

/// What happens to a call that must be approved; the `event` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalEvent {
    /// It was asked for.
    Asked,
    /// Somebody approved it.
    Approved,
    /// Somebody rejected it.
    Rejected,
    /// It was made.
    Used,
    /// Its time was over.
    Expired,
}

impl ApprovalEvent {
    /// Every event, in the order of the enum.
    pub const ALL: [Self; 5] =
        [Self::Asked, Self::Approved, Self::Rejected, Self::Used, Self::Expired];

    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Used => "used",
            Self::Expired => "expired",
        }
    }
}
