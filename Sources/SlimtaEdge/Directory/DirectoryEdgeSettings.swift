// What an edge of type "directory" needs of the configuration. The composition root makes one at start and at each reload.

/// What the messages of a directory edge are held to, and when a file is one. A message keeps the settings that it began with.
package struct DirectoryEdgeSettings: Sendable {
    /// Name, limits and rules, as for other edges.
    package var submission: SubmissionSettings
    /// The pickup folder. It never changes: an edge with another folder is another edge.
    package var path: String
    /// Who owners of files are as logins; nil: whoever may put a file there may send as anybody.
    package var owners: LocalUsers?
    /// How long a file has to stay as it is that was written in its place; zero: writers rename or link what is whole.
    package var settle: Duration
    /// How long a file is tried that can only not be taken now.
    package var expire: Duration

    /// An edge for the folder `path`.
    package init(submission: SubmissionSettings, path: String, owners: LocalUsers?, settle: Duration, expire: Duration)
    {
        self.submission = submission
        self.path = path
        self.owners = owners
        self.settle = settle
        self.expire = expire
    }
}
