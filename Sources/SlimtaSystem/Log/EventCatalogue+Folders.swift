// The events of edges of type "directory": see EventCatalogue+Entries.swift, which has all others.

extension EventCatalogue {
    /// What is told of pickup folders and the files in them.
    static let folderEntries: [Entry] = [
        Entry(
            "0ed93bbcb2d5c39332171b75d92315bc", "file submitted",
            "The message of the file @SLIMTA_FILE@ in @SLIMTA_PATH@ is queued as "
                + "@SLIMTA_QUEUE_ID@."),
        Entry(
            "80b17811a509c2ee7091c4566cdffa7e", "file refused, set aside",
            "The file @SLIMTA_FILE@ cannot be taken as a message: @SLIMTA_REPLY@. It lies in the "
                + "folder failed in @SLIMTA_PATH@, with the reason beside it.",
            remedy: "Correct what is wrong and move the file back into the folder, or delete it. Nothing "
                + "there is ever deleted by slimtad."),
        Entry(
            "a9c1a93666928d6c24bfba716c02667a", "refused file cannot be set aside",
            "A file is no message that can be taken (@SLIMTA_REPLY@), and could not be moved to "
                + "the folder failed in @SLIMTA_PATH@: @SLIMTA_ERROR@. It is tried again.",
            remedy: "See that the disk has room, and that the folder is slimtad's own."),
        Entry(
            "4abf10a056e99ff77468641cafcedd1b", "file is tried again later",
            "The message of the file @SLIMTA_FILE@ cannot be taken now: @SLIMTA_REPLY@. The file "
                + "stays in the folder taken in @SLIMTA_PATH@, and is tried again after a while."),
        Entry(
            "4906cd5b14c7bad1d99ae32cf82d6afb", "file was written to while it was read",
            "Somebody still wrote to the file @SLIMTA_FILE@ in @SLIMTA_PATH@ when it was taken. "
                + "It is read once more.",
            remedy: "Have writers rename files into the folder when they are whole, or set settle of the "
                + "edge."),
        Entry(
            "09903424edc36040faf62ed0e62f77ae", "file cannot be taken",
            "A file in @SLIMTA_PATH@ cannot be moved to the folder taken: @SLIMTA_ERROR@. It is "
                + "tried again in a minute.",
            remedy: "The folder has to be the service's own, and of one file system: slimtad check says "
                + "what is wrong."),
        Entry(
            "d7c1ff3b6ead41d265046cfaadac81fc", "file cannot be removed, its message is queued",
            "The message of a file is queued, and the file is still in the folder taken in "
                + "@SLIMTA_PATH@: @SLIMTA_ERROR@. It is removed as soon as that can be done, and not "
                + "sent again.",
            remedy: "See why slimtad cannot write to the folder."),
        Entry(
            "bd8631baf4ca91b1185d60fb03ad6c68", "no files are taken",
            "The edge @SLIMTA_EDGE@ takes no files from @SLIMTA_PATH@: @SLIMTA_ERROR@. It tries "
                + "again by itself; files wait.",
            remedy: "slimtad check says what is wrong with the folder. Where the disk is full, make room."),
        Entry(
            "92abcf305f134734c3d1bd4c150ad0e8", "files are taken again",
            "The edge @SLIMTA_EDGE@ takes files from @SLIMTA_PATH@ again."),
    ]
}
