// What an attempt teaches of a host. HostTrialMachine says it, Site and DoubtMemory remember it.

/// What is to be remembered of a host that there was a session with.
enum HostLesson: Hashable {
    /// It has ended the session at its begin.
    case dead
    /// It kept us waiting.
    case hung
    /// It may have this message. Others are to be tried first, next time.
    case mayHaveIt
    /// It takes no more recipients than that in one transaction.
    case takes(Int)
}
