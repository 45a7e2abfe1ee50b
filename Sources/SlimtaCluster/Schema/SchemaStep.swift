// How the tables of an older release become those of this one. ClusterDatabase takes the steps, one transaction each; nodes
// never do. A step only adds: nodes of the release before it go on working until `oldest` says that they must not.

/// The tables' way from one version to the next.
struct SchemaStep: Sendable {
    /// What the tables are behind it: one more than before.
    let version: Int32
    /// Releases that know only versions below it must not write behind the step.
    let oldest: Int32
    /// Statements with a semicolon between them.
    let sql: String

    /// All that this release knows, in their order: version 1 is made whole.
    static let all: [SchemaStep] = []

    /// The step with what makes it safe. The first statement divides by zero (22012) unless the tables have the version
    /// before it: somebody else was faster. No statement waits longer than two seconds for a lock, for whoever wants
    /// the table meanwhile waits behind it.
    var transaction: String {
        """
        set local lock_timeout = '2s';
        select 1 / count(*) from (select version from slimtad.schema where version = \(version - 1) for update) as before;
        \(sql);
        update slimtad.schema set version = \(version), oldest = greatest(oldest, \(oldest));
        """
    }
}
