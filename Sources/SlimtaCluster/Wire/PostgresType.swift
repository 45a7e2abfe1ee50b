// The few types that the queue's statements have, by the numbers that every PostgreSQL has for them.

/// The type of a parameter.
enum PostgresType: UInt32, Hashable, Sendable {
    case bool = 16
    case bytea = 17
    case int8 = 20
    case int4 = 23
    case text = 25
    case uuid = 2950
    case byteaArray = 1001
    case int4Array = 1007
    case textArray = 1009
    case int8Array = 1016
    case uuidArray = 2951

    /// The type of arrays of it; nil: there is none here.
    var array: PostgresType? {
        switch self {
        case .bytea: .byteaArray
        case .int8: .int8Array
        case .int4: .int4Array
        case .text: .textArray
        case .uuid: .uuidArray
        default: nil
        }
    }
}
