// All kinds of events that slimtad logs. An entry's id never changes and is never used again: filters are made of it. The
// message is what the code logs, word for word: a test compares them.

extension EventCatalogue {
    /// By what they are about; part of ``entries``.
    static let entriesOfSlimtad: [Entry] = [
        // The life of the daemon
        Entry(
            "e5e51e967b50ca84d2bc91b86a51d85a", "ready",
            "slimtad accepts mail. @SLIMTA_QUEUED@ messages were queued when it started."),
        Entry(
            "37e9475a0b863eb1a6444282f5c34e01", "queue recovered",
            "The queue was read after the start. @SLIMTA_QUEUED@ messages are in it, and are delivered as"
                + " they become due."),
        Entry(
            "077509d9608f2625599c508c0a3cd65a", "listening",
            "The edge @SLIMTA_EDGE@ accepts connections on @SLIMTA_ADDRESS@."),
        Entry(
            "aafec3c697515620cf525c79100ddbda", "cannot listen",
            "The edge @SLIMTA_EDGE@ cannot accept connections on @SLIMTA_ADDRESS@: @SLIMTA_ERROR@. Its "
                + "other addresses work.",
            remedy: "See which program has the port (ss -ltnp), correct [[edge]] listen in slimta.conf, and "
                + "reload."),
        Entry(
            "705221c349da6a3102e8e4ff48eecd54", "stopping",
            "slimtad was told to stop. It accepts no more connections; sessions and deliveries in "
                + "progress get drain_timeout. The queue is kept."),
        Entry(
            "ff2adef908a32dd68aba0a724e183386", "stopped",
            "slimtad has stopped, and its queue is closed in good order."),
        Entry(
            "5454f6810135126555c935f3ab2af4e3", "reloaded",
            "Configuration, certificates and users were read again from @SLIMTA_FILE@ and are in use. "
                + "Sessions that had begun end as they began."),
        Entry(
            "9f6551642d16b3f2b277146dee839a61", "reload failed, the configuration in use stays",
            "What was read at the reload is wrong, so nothing was changed: @SLIMTA_ERROR@",
            remedy: "Run `slimtad check`: it reports all mistakes with their lines. Then reload again."),
        Entry(
            "20b42d1b0483deb74971dd7b05ed9ae9", "changes of [daemon] take effect at the next start",
            "[daemon] in slimta.conf has changed: user, directories and the like cannot change while "
                + "slimtad runs.",
            remedy: "systemctl restart slimtad. No connection is refused meanwhile."),
        Entry(
            "3d7e9dc817234e51f7625e0bd3a3d492", "cannot run",
            "slimtad cannot start: @SLIMTA_ERROR@",
            remedy: "The text says what is missing. `slimtad check` looks at configuration, certificates and "
                + "users without starting."),
        Entry(
            "fed1bbf28d60429aab626af6406c81f3", "command",
            "@SLIMTA_BY@ gave the command @SLIMTA_COMMAND@ over the control socket."),
        Entry(
            "8e18bf22f22248db85f66945039726c7", "command carried out",
            "@SLIMTA_COMMAND@, given by @SLIMTA_BY@ over the control socket, was done to @SLIMTA_MESSAGES@ messages. "
                + "For a filter that means many, there is one such line for each part of them."),
        Entry(
            "48da9eb49294495840c2eb2e74f2e881", "part of the daemon hangs, the watchdog is not fed",
            "@SLIMTA_PART@ has given no sign of life for two rounds. If it goes on, systemd kills slimtad"
                + " with SIGABRT, which leaves a backtrace here, and starts it again; queued mail is not lost.",
            remedy: "Look for a disk that does not answer (dmesg, iostat). If the disk is well, this is an error "
                + "in slimtad: report it with the backtrace."),

        Entry(
            "ca1b8b201e7d4252987c47ee67cece27", "fewer connections than configured, few files may be open",
            "Only @SLIMTA_LIMIT@ files may be open. So that the queue and slimtad's commands have theirs, there are at "
                + "most @SLIMTA_CONNECTIONS@ connections of clients and @SLIMTA_RELAY_CONNECTIONS@ of each relay.",
            remedy:
                "Raise LimitNOFILE= in the unit (systemctl edit slimtad), or ulimit -n, and restart; or lower [limits] "
                + "connections and [relay] connections to what is meant."),
        Entry(
            "4dd20215ddc9473e841260086801ef83", "cannot accept connections for a moment",
            "A connection to @SLIMTA_ADDRESS@ could not be accepted: @SLIMTA_ERROR@. It waits, and is "
                + "tried again in a second.",
            remedy: "If it is about open files: raise LimitNOFILE= in the unit, or fs.file-max of the machine."),

        Entry(
            "f9d977963d49417aab3943008e9b154c", "relay refuses our login, its mail waits",
            "The host @SLIMTA_RELAY@ does not take the username and password of slimta.conf: @SLIMTA_REPLY@. "
                + "Mail for it stays in the queue and is tried again.",
            remedy: "Correct username or the password file, and reload slimtad; `slimtad queue flush --all` "
                + "then tries at once."),
        Entry(
            "88577a9871a246e999bedba9b315022a", "relay takes our login again",
            "The host @SLIMTA_RELAY@, which had refused username or password, has taken mail."),

        // Certificates
        Entry(
            "ff5f96ef222b3fb9ee027d5ce848e088", "renewed certificate is in use",
            "The files of [tls] have changed, and new sessions are shown what is in them now."),
        Entry(
            "bc181bbd3e97615236b388165fc68fd0", "list of a rule cannot be read",
            "A list that rules name was written over while it was in use, or its disk does not give it: "
                + "@SLIMTA_ERROR@. Until the next reload rules with it do not act.",
            remedy: "Make the list again with slimtad map, which replaces it as a whole, and reload."),
        Entry(
            "879a22567aa69bab56ee47ee95ed8f5f", "certificate cannot be used, the old one stays",
            "@SLIMTA_FILE@ or its key has changed and cannot be used: @SLIMTA_ERROR@. Clients still see "
                + "the old certificate.",
            remedy: "Put certificate and key in place that belong together, readable for slimtad (key: group "
                + "slimtad, mode 0640), and reload."),
        Entry(
            "0a392f5f9a1fd81a4a1126086d9b1f7b", "certificates cannot be read, the old ones stay",
            "The daily look at the files of [tls] failed: @SLIMTA_ERROR@. Clients still see the old "
                + "certificates.",
            remedy: "Correct the files and reload."),
        Entry(
            "ced3c7493ea0d64d01fedfa67f87d3a8", "certificate expires soon",
            "The certificate in @SLIMTA_FILE@ ends in @SLIMTA_DAYS@ days, and clients will refuse it "
                + "then.",
            remedy: "See why it was not renewed (certbot renew, or whoever issues it). slimtad takes a new one at"
                + " reload, and once a day by itself."),
        Entry(
            "2212d4f56608cc6e52327f4b33435790", "certificate has expired",
            "The certificate in @SLIMTA_FILE@ has ended. Clients that verify it refuse to send.",
            remedy: "Renew it and reload slimtad."),

        // Users
        Entry(
            "ed6408e621f1c69ba0ccc7bbf516f8e1", "no users file, nobody can log in",
            "@SLIMTA_FILE@ does not exist, and edges ask for AUTH.",
            remedy: "Make a user: slimtad passwd NAME. It is noticed within seconds."),
        Entry(
            "810d75bc34d14fd6634e786fc8fb0422", "line of the users file is ignored",
            "A line of @SLIMTA_FILE@ is not NAME:HASH[:SENDERS]: @SLIMTA_ERROR@. The other users are not "
                + "affected.",
            remedy: "Correct the line, or set the password again with `slimtad passwd`."),
        Entry(
            "c193b575c8f742b7bede13b2f5e4b038", "users file was read again",
            "The users file @SLIMTA_FILE@ was changed, and its @SLIMTA_USERS@ users are in use. Nothing else was read."),
        Entry(
            "9c6953a02ed84c3b9b19e21237f2e1b9", "users file cannot be used, the users in use stay",
            "The users file was changed and cannot be used as it is: @SLIMTA_ERROR@",
            remedy: "The users of before can log in. Mend the file or its rights; it is noticed within seconds."),
        Entry(
            "9159038d5d6d4e049d9ac39c9a946395", "users differ by case only",
            "The users @SLIMTA_USERS@ of @SLIMTA_FILE@ are the same name with [auth] fold_case. Each can log in with "
                + "the name as it is spelled there, and no other way.",
            remedy: "Delete all but one with slimtad passwd NAME --delete."),

        // Sessions
        Entry(
            "f5008dd0be8c5e7a2fa6015d25da6302", "connected",
            "A connection was made: by a client to an edge, or by slimtad to another host."),
        Entry(
            "618cc838dcad92738c3fe74e6a301ec4", "disconnected",
            "A client's connection has ended."),
        Entry(
            "0739b129523d3dc58f1a52d8eecb14d7", "TLS established",
            "A client's session is encrypted."),
        Entry(
            "d78c2fb91a0b4db0a3b5ec6d1f0f4a37", "talks before the greeting",
            "A client did not wait for the greeting of an edge with greet_delay, as RFC 5321 wants it: programs that "
                + "send spam do so. It is the fact early_talker of rules."),
        Entry(
            "d5f37d4ce38b761737ea8318a1f3499c", "connection failed",
            "A client's connection broke: @SLIMTA_ERROR@. A message that was not acknowledged is not "
                + "queued; the client has to send it again."),
        Entry(
            "1228054ccf974c8aa6d1f550fb65f424", "HTTP request refused",
            "A request to an edge that speaks HTTP was no submission that it takes, and was answered with the status "
                + "@SLIMTA_STATUS@: @SLIMTA_REASON@. What is refused to a submission has lines of its own."),
        Entry(
            "b5975f37ee6009f8108cca949d87d16c", "refused",
            "A client was refused something: @SLIMTA_REPLY@. The line has the command, the address that it named, "
                + "the sender and the login, as far as there are any; and the rule (SLIMTA_RULE), the policy service, the milter "
                + "or the result of SPF that it was for, if it was not the protocol or the queue. Where the login may not send as "
                + "that, SLIMTA_ALLOWED is what it may."),
        Entry(
            "3209ff71dc384da487ca1e23e0a56e5d", "AUTH= of MAIL is not believed",
            "The client named @SLIMTA_SUBMITTER@ as who has submitted the message (RFC 4954 section 5). That is "
                + "nobody's proof: it is told to policy services, and to no other host."),
        Entry(
            "5207961d132d4c3c886fe0f2ddb1f381", "rule applied",
            "A rule of slimta.conf did what its action says (@SLIMTA_ACTION@): @SLIMTA_RULE@. Rules that refuse are in the "
                + "line of what was refused."),
        Entry(
            "38d06f03717242989642f54bc950e316", "fields left out",
            "A message gets 100 fields and 64 KiB of them at most from rules, SPF and policy services, and one of "
                + "@SLIMTA_RULE@ had no room any more. The message goes on without it and those that came behind it.",
            remedy: "See why so many are added: a policy service that adds one for each recipient had better do so at "
                + "message alone."),
        Entry(
            "8a3f1c5b7e0d4962b4d8e61f03a97c25", "rule could not be decided",
            "The rule @SLIMTA_RULE@ did not act: whether its condition @SLIMTA_CONDITION@ holds could not be found out. Name "
                + "servers gave no answer, an expression takes too long, or a list could not be read. The client was let "
                + "past the rule, and this is told once in its session.",
            remedy:
                "For ptr, spf and dnsbl see what name servers say of @SLIMTA_CLIENT@. If it happens often, make the rule's "
                + "expression a simpler one, or judge by something that clients have no hand in."),
        Entry(
            "55d6e826b11e4e0197be2c95185fcd22", "lines left out",
            "A client caused too many lines in a minute. @SLIMTA_COUNT@ more lines \"@SLIMTA_EVENT@\" about "
                + "@SLIMTA_CLIENT@ were not written.",
            remedy: "See what the lines before it say. If it is no client of yours, block @SLIMTA_CLIENT@ in the "
                + "firewall."),
        Entry(
            "cf3fde71040778546d1b8035f46022f6", "session ended",
            "slimtad or the client ended the session: @SLIMTA_REASON@."),
        Entry(
            "1f0c6cde0d5c4b51a3a0a7b4b2a1ce94", "no valid PROXY header",
            "@SLIMTA_PROXY@ is in proxy_protocol of the edge @SLIMTA_EDGE@, and what it sent is no PROXY header: "
                + "@SLIMTA_ERROR@. The connection was closed.",
            remedy:
                "Have the proxy send the header (HAProxy: send-proxy or send-proxy-v2 on the server's line), or take "
                + "the address out of proxy_protocol if it is a client's."),
        Entry(
            "6d2f8f3e6c8b4b7e9a54ce4f5b1d7702", "no PROXY header",
            "A connection from the proxy @SLIMTA_PROXY@ to the edge @SLIMTA_EDGE@ ended without a whole PROXY header: "
                + "@SLIMTA_REASON@. Health checks of proxies do so, if nothing had come at all.",
            remedy: "If clients cannot connect: have the proxy send the header (HAProxy: send-proxy or send-proxy-v2)."),
        Entry(
            "d9450febc33b2215e385aace5e20c190", "too many connections",
            "A client was turned away with 421, over HTTP with 503: [limits] connections or connections_per_address is "
                + "reached; a user of this machine has as many to the sendmail socket as an address has elsewhere.",
            remedy: "If these are your own clients, raise the limit in slimta.conf and reload."),

        // Lookups
        Entry(
            "d2578ceb63644ac0a3a863ba3bf59586", "block list is out of order, it is not asked until it recovers",
            "The DNS list @SLIMTA_LIST@ does not answer as a list has to (RFC 5782 section 5): @SLIMTA_ERROR@. Until it does, "
                + "nobody is taken for listed. It is tried every minute.",
            remedy:
                "Lists end, and refuse those who ask by a public resolver or too often: see what its operator says. "
                + "Correct zone or answers of [[dnsbl]], or remove it."),
        Entry(
            "459e6c472da7480b89f21e58f5a9bbdb", "block list is in order again",
            "The DNS list @SLIMTA_LIST@ answers as it has to, and counts again."),
        Entry(
            "39a115f810374c9f8b7787b47578a724", "block list answers with an error, nobody is taken for listed",
            "The DNS list @SLIMTA_LIST@ has answered @SLIMTA_ANSWER@, which is no listing: it refuses the question, or "
                + "somebody else answers in its place. That is told once until the list is next found in order.",
            remedy:
                "127.255.255.254 and the like mean that the resolver is a public one, or that too much is asked: see "
                + "what the operator of the list says, and ask it by a resolver of your own ([dns] servers)."),
        Entry(
            "6c48ea519c684e0d800ea41d3c5139da", "too many lookups at once, some are left out",
            "Clients cause more questions to name servers than are asked at a time. @SLIMTA_COUNT@ were left out since the "
                + "start; rules take what they would have said for unknown. Told once a minute at most.",
            remedy: "See whether the name servers answer ([dns] servers), and where the connections are from."),

        // Policy services
        Entry(
            "d9252b5464e04561ad2fe2995c3d5b34", "policy service gives no answer",
            "A question to the policy service @SLIMTA_SERVICE@ has failed, both tries of it: "
                + "@SLIMTA_ERROR@. For the client on_failure = \"@SLIMTA_ON_FAILURE@\" was the answer. Further "
                + "failures of the next minute are not told.",
            remedy: "See whether the service runs, and whether it answers within timeout of its "
                + "[[policy_service]]."),
        Entry(
            "a2934ae415f142baa458178c86a7e254", "policy service gives no answers, it is not asked for a while",
            "The policy service @SLIMTA_SERVICE@ has failed several questions in a row, the last one "
                + "with: @SLIMTA_ERROR@. For 30 seconds on_failure = \"@SLIMTA_ON_FAILURE@\" is the answer to "
                + "all, without waiting; then one question after the other sees whether it is back.",
            remedy: "See whether the service runs. Where mail should rather pass than wait meanwhile, on_failure "
                + "= \"accept\"."),
        Entry(
            "865f456927a64c89b77b07c2e5dee303", "policy service answers again",
            "The policy service @SLIMTA_SERVICE@ answers again, and is asked."),
        Entry(
            "867fa0c8d8bf4a94b267e17370684031", "policy service not asked or silent",
            "The policy service @SLIMTA_SERVICE@ gave no answer to one question: @SLIMTA_ERROR@. "
                + "on_failure = \"@SLIMTA_ON_FAILURE@\" was the answer."),
        Entry(
            "cb1d27e58f2e4ee1bf14a94a4d75a8ed", "policy service ends its lines with CRLF",
            "The policy service @SLIMTA_SERVICE@ ends lines with CRLF. slimtad takes that; the protocol "
                + "has LF, and Postfix would wait for the end of the answer in vain. Told once.",
            remedy: "Have the service end its lines with LF."),
        Entry(
            "42f471bbfde0486a8bab95d26994cdd4", "policy service says what is not known, taken as DUNNO",
            "The policy service @SLIMTA_SERVICE@ has answered \"@SLIMTA_ACTION@\", which is no action "
                + "that slimtad has. It counts as DUNNO. Told once for each.",
            remedy: "Configure the service to answer with one of OK, DUNNO, REJECT, DEFER, DEFER_IF_PERMIT, "
                + "DEFER_IF_REJECT, PREPEND, HOLD, WARN, INFO, or a code from 400 to 599 with a text."),
        Entry(
            "bd19cde13a6a4d99895da7ce954ddf07", "policy service says a number alone, taken as OK",
            "The policy service @SLIMTA_SERVICE@ has answered \"@SLIMTA_ACTION@\" without a text. As in "
                + "Postfix, a number alone is OK: nothing was refused. Told once.",
            remedy: "If the service means to refuse, have it say a text behind the code."),

        // The story of a message
        Entry(
            "affe895c39f2826e2982af102086b17f", "accepted",
            "The message is stored durably and slimtad is responsible for it. Each recipient of each "
                + "attempt gets a line of its own: journalctl SLIMTA_QUEUE_ID=@SLIMTA_QUEUE_ID@. Where the header was not "
                + "as it has to be, SLIMTA_REPAIRED says what was mended, and SLIMTA_NOT_REPAIRED what was left alone, "
                + "for a signature or another host's field is about it."),
        Entry(
            "80b354f3445efce14374b40c93bab3b5", "refused by policy",
            "The message was refused before it was stored: @SLIMTA_REPLY@. Where From or Sender is not the login's, "
                + "SLIMTA_ALLOWED is what it may use there. Where the key that was to sign may not do so yet, or no longer, "
                + "SLIMTA_SELECTOR is which one."),
        Entry(
            "a5fad3463c084b72b68f54ea48ddd2b7", "submitted before",
            "A message with the same key was submitted before, or is being stored at this moment: no second one was "
                + "made of it."),
        Entry(
            "b9cec285af42206871193fb22f84d8b1", "message could not be stored",
            "The message was not acknowledged, and the client was told to try again: @SLIMTA_ERROR@",
            remedy: "Look at the disk: room (df), errors (dmesg). Nothing that was acknowledged is concerned."),
        Entry(
            "d631c1e236f403b2b557a2efb2c82b17", "delivered",
            "@SLIMTA_RELAY@ has taken the message for @SLIMTA_RECIPIENT@: @SLIMTA_REPLY@. Where the event has a field "
                + "\"converted\", the host does not take octets above 127, and the message went there in another form."),
        Entry(
            "85e07b5aa328b7fc8b9a7cd1118a16ce", "deferred",
            "The message could not be delivered to @SLIMTA_RECIPIENT@ for now: @SLIMTA_REPLY@. It is "
                + "tried again in @SLIMTA_NEXT@.",
            remedy: "Nothing, unless all messages to this destination are deferred: then the reply says why."),
        Entry(
            "da17756ad56a0c5ab5ee9289cba633a3", "bounced",
            "The message cannot be delivered to @SLIMTA_RECIPIENT@: @SLIMTA_REPLY@. The sender is told."),
        Entry(
            "2ffd0c51b0dce6293257d3f7995490a0", "expired",
            "The message could not be delivered to @SLIMTA_RECIPIENT@ within [queue] expire, and is given"
                + " up: @SLIMTA_REPLY@. The sender is told."),
        Entry(
            "01e4760b269befe10e1980edb93d8057", "notice queued",
            "A notice to the sender (bounce or delay) is queued. @SLIMTA_ABOUT@ is the message that it is"
                + " about."),
        Entry(
            "876a6226cec8c1d34cd2c8ecafd72d24", "notice could not be delivered",
            "A bounce cannot be delivered to the sender that it is for, so nobody knows that the message "
                + "@SLIMTA_QUEUE_ID@ told of was not delivered.",
            remedy: "If it concerns a user of yours, the lines of this queue id say what was lost and why."),
        Entry(
            "fd7c255b1d5794ac97c625c1afdeae9b", "outcome cannot be recorded, no delivery begins until it can",
            "An attempt was made for @SLIMTA_QUEUE_ID@ and its result cannot be stored: @SLIMTA_ERROR@. Nothing more is "
                + "delivered meanwhile, or the same would be delivered again and again.",
            remedy: "Look at the disk: room (df), errors (dmesg). It goes on by itself when it can."),
        Entry(
            "6b1e0c3f52a94e7db8d07a5f1c92e34d", "outcome of a message that another node has now",
            "An attempt was made for a message whose part of the queue was given to another node "
                + "meanwhile. What came of it is not recorded; the other node makes an attempt of its own, so that it "
                + "may be delivered twice.",
            remedy: "Nothing, if this node was away. If it was not, see whether it reaches the queue's storage in time."
        ),
        Entry(
            "34cf00584dec182beb68f62ed2d772df", "queued envelope is not in the storage",
            "The scheduler had a message that the storage does not know. It is an error in slimtad.",
            remedy: "Report it with the lines of SLIMTA_QUEUE_ID=@SLIMTA_QUEUE_ID@."),
        Entry(
            "dbaed1282f3a0ff499a1b0bd42c73359", "queued envelope is damaged and held",
            "The stored message cannot be read: @SLIMTA_ERROR@. What is left of it is in quarantine/ of "
                + "the state directory.",
            remedy: "Look at the disk; tell the sender."),
        Entry(
            "d1ba18c55a7e84ec6b0f2e966958d406", "queued envelope could not be read",
            "The disk did not give a queued message: @SLIMTA_ERROR@. It is tried again later.",
            remedy: "Look at the disk (dmesg)."),
        Entry(
            "dda0f5ccf93559305046f43ec51cb29a", "destination does not answer",
            "The hosts of @SLIMTA_DESTINATION@ could not be reached several times in a row: "
                + "@SLIMTA_REPLY@. Messages to it wait, and one of them tries again in @SLIMTA_NEXT@.",
            remedy: "Nothing, if the fault is there. If no destination answers, see whether this machine may "
                + "connect to port 25 outside."),
        Entry(
            "5f18139aaaa83f67f4b0af8539c582c5", "destination answers again",
            "Messages to @SLIMTA_DESTINATION@ are delivered again."),
        Entry(
            "40435853af81028b3bb1644e73a397bd", "held",
            "An operator holds the message: it is not attempted until it is released."),
        Entry(
            "208c2e0444ba423a2e266bdabd2a0e48", "released",
            "An operator released the message: it is attempted again."),
        Entry(
            "1380a0713f7a4417bf67d4298df58cf6", "flushed",
            "An operator asked for the message to be attempted now."),
        Entry(
            "0ee0551c0492d49a78ceb60b927f66d0", "removed by an operator",
            "An operator took the message out of the queue. Nobody is told."),
        Entry(
            "80bb1a972c98428dd6a0d01184e365f6", "bounced by an operator",
            "An operator gave the message up. The sender is told."),

        // Relays
        Entry(
            "4358a9e85b5543f51c42113a5e284528", "not connected",
            "No connection to @SLIMTA_RELAY@: @SLIMTA_REASON@. Another host of the destination may be "
                + "tried."),
        Entry(
            "8307f92719e65f317722709a12877e6a", "idle connection was dead",
            "The other host had closed a connection that was kept for the next message; a new one is "
                + "made."),
        Entry(
            "92e47da870f229e5cb4412c4c1655193", "no session",
            "@SLIMTA_RELAY@ took the connection and no mail: @SLIMTA_REASON@"),
        Entry(
            "6fb8c49169defb4b78c9bf436714622f", "maildir delivery failed",
            "@SLIMTA_PATH@ could not be written to: @SLIMTA_REASON@. The message is tried again.",
            remedy: "The folder must belong to slimtad, and the unit must allow to write there: ReadWritePaths= "
                + "in `systemctl edit slimtad`."),
        Entry(
            "d38016fc1ed2dc44d4c0bca54b2f2d0c", "DNS answers are validated (DNSSEC)",
            "The network passes signed answers on, so that DANE can be used."),
        Entry(
            "adf189f55aa9eafbc1f329019a3e0ac6", "DNS answers are not validated, as configured",
            "[dns] dnssec is off."),
        Entry(
            "06f905388277f3905cecde274607495f", "DNS answers cannot be validated on this network",
            "Answers are used unvalidated: @SLIMTA_REASON@",
            remedy: "Install dns-root-data, or use a resolver that passes DNSSEC records on ([dns] servers). Mail"
                + " is delivered all the same."),

        // The queue's files
        Entry(
            "c21e02369fa996922bf503934caad1b9",
            "the journal ended in an unfinished write, which was never acknowledged",
            "The machine or slimtad ended while something was being written. No client was told that it "
                + "was stored: nothing is lost."),
        Entry(
            "a329a2779b807c7647f55a6e4971e931", "stored mail is damaged and was moved aside",
            "The disk gave back something else than was written. What was readable is in "
                + "@SLIMTA_QUARANTINE@.",
            remedy: "Check the disk and the memory of this machine. `slimtad queue` shows what is left of the "
                + "queue; the envelope is in this line as far as it is known."),
        Entry(
            "a8df773f8ec74c3780b91b3a89fb37ab", "a file of the queue is missing, mail may be lost",
            "@SLIMTA_WHAT@: @SLIMTA_ERROR@. Somebody deleted it, or the file system lost it; messages that were "
                + "acknowledged were in it. The daemon goes on with all that is there.",
            remedy: "Bring the file back from a copy while slimtad is stopped, if there is one. `slimtad status` and "
                + "`slimtad audit` tell of it until `slimtad audit --acknowledge`."),
        Entry(
            "3fb018369f872c40daf84ff4cfcad9da", "a message may be delivered again, its state was damaged",
            "Which recipients had the message already cannot be read, so all of them get it.",
            remedy: "Check the disk and the memory of this machine."),
        Entry(
            "82b60bac396376a1b76e73b7529da78e", "queue index repaired",
            "One of the two copies of what tells which files count was damaged; the other one was used: "
                + "@SLIMTA_WHAT@"),
        Entry(
            "d09b3b2e90e4df0a8f1a1cd39bfe1157", "the queue's disk failed, nothing is accepted",
            "Nothing can be made durable: @SLIMTA_ERROR@. Clients are told to try again (451); what is "
                + "queued stays.",
            remedy: "Look at the disk: errors (dmesg), whether it was made read-only (mount). slimtad goes on by "
                + "itself when it works again."),
        Entry(
            "af49065aeb46c3021e73d9d2d089c3a3", "the queue's disk works again",
            "Messages are accepted again."),
        Entry(
            "5c1f4e0a9b7d4e2f8a6343c0d1b96e27", "submissions are forgotten before their time",
            "More submissions with Idempotency-Key or as JSON are to be remembered than there is room for. Those that would "
                + "be forgotten first go at once: one that is made again makes a second message, and its state cannot be "
                + "asked for. The limit is @SLIMTA_LIMIT@: owner, of one login or client 10,000 or 16 MiB; all, of all together "
                + "100,000 or 64 MiB, of which who has most gives. Told once until the next start.",
            remedy: "See who submits so much, most often messages with many recipients and a send_at far ahead."),
        Entry(
            "115d9b477d26734fc94a5d653a687e7a", "checkpoint failed, all is still in the journal",
            "What has to leave the journal cannot be written elsewhere: @SLIMTA_ERROR@. Nothing is lost, "
                + "and it is tried again; meanwhile the journal grows.",
            remedy: "Look at the disk: room (df), errors (dmesg)."),
        Entry(
            "8f2e1d2e4f4e61192e845a33987c0534", "disk is full, nothing is accepted",
            "There is less room than [queue] minimum_free, too few @SLIMTA_LACKS@: @SLIMTA_FREE@ octets and "
                + "@SLIMTA_INODES@ inodes are free. Clients are told to try again (452); deliveries go on.",
            remedy: "Make room in the file system of /var/lib/slimtad: larger files where octets are lacking, many "
                + "small ones where inodes are (df -i)."),
        Entry(
            "c719a469fd7d20ae86ed01b465e48863", "disk has room again",
            "Messages are accepted again."),
        Entry(
            "d7bdab66c22e24c6e4bb1864c3fde221", "a file that is not needed could not be deleted",
            "@SLIMTA_PATH@ is left over.",
            remedy: "Delete it when slimtad is stopped, if it bothers you."),

        // The control socket
        Entry(
            "6a0179cff6caf31bd77da53d294526fc", "no control socket, slimtad's commands cannot reach this daemon",
            "@SLIMTA_ERROR@. Mail is handled all the same; `slimtad queue` and `slimtad status` cannot "
                + "ask this daemon.",
            remedy: "Correct what the text says and restart."),
        Entry(
            "336dbc316a2c430d8b59aa04a5f205e8", "control socket is not for its group",
            "@SLIMTA_ERROR@. Mail is handled all the same; root and the service's user can use slimtad's commands.",
            remedy:
                "Make the service's user a member of the group (usermod -aG slimtad-admin slimtad), and in a unit of "
                + "your own leave chown to it (SystemCallFilter=@chown); then restart."),
        Entry(
            "d060e9cccffb3494f8e9941f7776fae0", "the control socket failed",
            "Commands cannot reach this daemon any more: @SLIMTA_ERROR@. Mail is handled all the same.",
            remedy: "systemctl restart slimtad"),
        Entry(
            "4585bebfaf0042bdf3193e61e36cf71d", "too many connections to the control socket",
            "A command was turned away.",
            remedy: "See who asks so often."),
        Entry(
            "d7444ecc44d478126fa0a25a19854863", "control connection ended",
            "A command's connection has ended."),
        Entry(
            "a8c163eb276c6f4102216e448723f8b7", "control refused",
            "Somebody who is neither root, nor the service's user, nor in the group slimtad-admin tried "
                + "to use the control socket.",
            remedy: "Add those who may: adduser NAME slimtad-admin."),
    ]
}
