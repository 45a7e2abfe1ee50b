// The description of the HTTP interface (OpenAPI 3.1.1), as it is served at /openapi.json. Tests hold it to be true: every
// request in it is made, and schemathesis makes others (Tests/Interop/test_openapi.py).

/// `/openapi.json`.
enum OpenAPI {
    /// The document, for a server that takes `recipients` recipients and `size` octets.
    static func document(version: String, recipients: Int, size: Int) -> String {
        return """
            {
            "openapi": "3.1.1",
            "info": {
              "title": "slimtad", "version": "\(version)", "summary": "Submission of mail",
              "description": "A message is given as JSON, and slimtad makes a MIME message of it. The answer 202 says that it is stored and will be delivered or bounced. A request may have \(size) octets, and so may the message, and it may be for \(recipients) recipients."
            },
            "servers": [{"url": "/"}],
            "security": [{"basic": []}, {}],
            \(paths)
            \(responses)
            \(schemas)
            }
            }

            """
    }

    private static let limits = MessageRequest.Limits.self

    /// What can be asked for.
    private static let paths = """
        "paths": {
          "/v1/messages": {
            "post": {
              "operationId": "submit", "summary": "Submits a message",
              "parameters": [{
                "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
                "description": "The same submission made again with the same key within a day gets the same answer, and makes no second message."
              }],
              "requestBody": {
                "required": true,
                "content": {"application/json": {
                  "schema": {"$ref": "#/components/schemas/Message"},
                  "examples": {
                    "short": {"value": {"from": "Alice <alice@example.com>", "to": "bob@example.org", "subject": "Lunch?", "text": "At noon?"}},
                    "whole": {"value": {
                      "from": {"email": "alice@example.com", "name": "Alice Müller"},
                      "to": ["Bob <bob@example.org>", {"email": "carol@example.org"}],
                      "bcc": ["dave@example.org"], "reply_to": "office@example.com", "subject": "Grüße",
                      "text": "See the picture.", "html": "<p>See <img src=\\"cid:picture\\"></p>",
                      "attachments": [
                        {"filename": "picture.png", "content": "iVBORw0KGgo=", "content_type": "image/png", "content_id": "picture"},
                        {"filename": "list.csv", "content": "YSxiCg==", "content_type": "text/csv; charset=utf-8"}
                      ],
                      "headers": {"X-Campaign": "spring", "List-Unsubscribe": "<https://example.com/u/1>"},
                      "metadata": {"order": "4711"}
                    }}
                  }
                }}
              },
              "responses": {
                "202": {
                  "description": "The message is stored. It goes to those who are accepted; of the others the answer says why not.",
                  "headers": {"Idempotency-Replayed": {"schema": {"const": "true"}, "description": "There if this is the answer to an earlier submission with the same key."}},
                  "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Accepted"}}},
                  "links": {"state": {"operationId": "state", "parameters": {"id": "$response.body#/id"}}}
                },
                "400": {"$ref": "#/components/responses/Problem"},
                "401": {"$ref": "#/components/responses/NotAuthenticated"},
                "403": {"$ref": "#/components/responses/Problem"},
                "409": {"$ref": "#/components/responses/Later"},
                "413": {"$ref": "#/components/responses/Problem"},
                "415": {"$ref": "#/components/responses/Problem"},
                "422": {"$ref": "#/components/responses/Problem"},
                "503": {"$ref": "#/components/responses/Later"}
              }
            }
          },
          "/v1/messages/{id}": {
            "get": {
              "operationId": "state", "summary": "What became of a message",
              "description": "For the login that sent it; to others there is no such message. It is known for a day after it was taken, or was to be sent; of more than 10,000 of a login, or 16 MiB of what is known of them, those are forgotten before that would be first.",
              "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"$ref": "#/components/schemas/ID"}}],
              "responses": {
                "200": {"description": "Its state", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/State"}}}},
                "401": {"$ref": "#/components/responses/NotAuthenticated"},
                "404": {"$ref": "#/components/responses/Problem"},
                "503": {"$ref": "#/components/responses/Later"}
              }
            }
          },
          "/openapi.json": {
            "get": {
              "operationId": "description", "summary": "This description", "security": [{}],
              "responses": {"200": {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object", "required": ["openapi"]}}}}}
            }
          }
        },
        """

    /// The beginning of the components: logins, and answers that several have.
    private static let responses = """
        "components": {
          "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
          "responses": {
            "Problem": {"description": "Why not (RFC 9457)", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
            "NotAuthenticated": {
              "description": "A login is needed, or was wrong", "headers": {"WWW-Authenticate": {"schema": {"type": "string"}, "required": true}},
              "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
            },
            "Later": {
              "description": "Not now (RFC 9457)", "headers": {"Retry-After": {"schema": {"type": "string", "pattern": "^[0-9]+$"}, "description": "In seconds"}},
              "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
            }
          },
        """

    /// The other components: what requests and answers consist of.
    private static let schemas = """
          "schemas": {
            "ID": {"type": "string", "pattern": "^[0-9a-f]{32}$", "examples": ["019a00000000000000000000000000ab"]},
            "Address": {
              "description": "An address, with or without a name: a text as in a message, or an object",
              "anyOf": [
                {"type": "string", "minLength": 3, "examples": ["Alice <alice@example.com>", "bob@example.org"]},
                {"type": "object", "required": ["email"], "additionalProperties": false, "properties": {
                  "email": {"type": "string", "minLength": 3, "maxLength": 254, "description": "local part, @, domain; UTF-8 is allowed in both"},
                  "name": {\(line(upTo: limits.name))}
                }}
              ]
            },
            "Addresses": {
              "description": "One or several; a text may have several with commas between them",
              "anyOf": [
                {"$ref": "#/components/schemas/Address"},
                {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Address"}}
              ]
            },
            "Attachment": {
              "type": "object", "required": ["content"], "additionalProperties": false,
              "properties": {
                "filename": {\(line(upTo: limits.fileName)), "description": "Without a path; recipients get at most 255 octets of it"},
                "content": {"type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/\\\\s]*=?\\\\s*=?\\\\s*$", "description": "Base64 with padding (RFC 4648 section 4); white space is ignored"},
                "content_type": {"type": "string", "default": "application/octet-stream", "maxLength": 500, "description": "A media type with or without parameters (RFC 2045). What consists of other messages, such as message/rfc822, goes as application/octet-stream."},
                "content_id": {"type": "string", "maxLength": 1000, "description": "What the HTML names it by, as cid:ID: then it is shown there"},
                "disposition": {"enum": ["attachment", "inline"], "description": "inline, where there is a content_id"}
              }
            },
            "Message": {
              "type": "object", "required": ["from"], "additionalProperties": false,
              "allOf": [
                {"anyOf": [{"required": ["to"]}, {"required": ["cc"]}, {"required": ["bcc"]}]},
                {"anyOf": [{"required": ["text"]}, {"required": ["html"]}, {"required": ["attachments"]}]}
              ],
              "properties": {
                "from": {"$ref": "#/components/schemas/Address"},
                "to": {"$ref": "#/components/schemas/Addresses"},
                "cc": {"$ref": "#/components/schemas/Addresses"},
                "bcc": {"$ref": "#/components/schemas/Addresses", "description": "The others are not told of these."},
                "reply_to": {"$ref": "#/components/schemas/Addresses"},
                "subject": {\(line(upTo: limits.subject))},
                "text": {"type": "string"},
                "html": {"type": "string"},
                "attachments": {"type": "array", "maxItems": \(limits.attachments), "items": {"$ref": "#/components/schemas/Attachment"}},
                "headers": {
                  "type": "object", "maxProperties": \(limits.headers), "description": "Further header fields: X-..., List-..., In-Reply-To, References, Message-ID, Auto-Submitted, Importance, Precedence and their like",
                  "propertyNames": {"pattern": "^[!-9;-~]{1,\(limits.headerName)}$"},
                  "additionalProperties": {\(line(upTo: limits.headerValue))}
                },
                "send_at": {"type": "string", "format": "date-time", "description": "When it is to be sent: at most 30 days ahead; at once if that is past"},
                "metadata": {
                  "type": "object", "maxProperties": \(limits.metadata), "description": "Anything, which is told again with the state",
                  "propertyNames": {"minLength": 1, "maxLength": \(limits.metadataName)},
                  "additionalProperties": {"type": "string", "maxLength": \(limits.metadataValue)}
                }
              }
            },
            "Metadata": {"type": "object", "additionalProperties": {"type": "string"}},
            "Verdict": {
              "type": "object", "required": ["address", "accepted"], "additionalProperties": false,
              "properties": {"address": {"type": "string"}, "accepted": {"type": "boolean"}, "reply": {"type": "string", "description": "Why not, as over SMTP"}}
            },
            "Accepted": {
              "type": "object", "required": ["id", "recipients"], "additionalProperties": false,
              "properties": {
                "id": {"$ref": "#/components/schemas/ID"},
                "recipients": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Verdict"}},
                "send_at": {"type": "string", "format": "date-time"},
                "metadata": {"$ref": "#/components/schemas/Metadata"}
              }
            },
            "State": {
              "type": "object", "required": ["id", "recipients"], "additionalProperties": false,
              "properties": {
                "id": {"$ref": "#/components/schemas/ID"},
                "send_at": {"type": "string", "format": "date-time"},
                "metadata": {"$ref": "#/components/schemas/Metadata"},
                "recipients": {"type": "array", "items": {
                  "type": "object", "required": ["address", "state"], "additionalProperties": false,
                  "properties": {
                    "address": {"type": "string"},
                    "state": {"enum": ["queued", "delivered", "bounced", "expired", "removed", "unknown"]},
                    "held": {"type": "boolean"},
                    "attempts": {"type": "integer", "minimum": 0},
                    "next_attempt": {"type": "string", "format": "date-time"},
                    "reply": {"type": "string", "description": "What was said of it last"}
                  }
                }}
              }
            },
            "Problem": {
              "type": "object", "required": ["type", "title", "status", "detail"], "additionalProperties": false,
              "properties": {
                "type": {"enum": [\(Problem.Kind.allCases.map { "\"/problems/\($0.rawValue)\"" }.joined(separator: ", "))]},
                "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"},
                "errors": {"type": "array", "maxItems": \(limits.faults), "items": {
                  "type": "object", "required": ["pointer", "detail"], "additionalProperties": false,
                  "properties": {"pointer": {"type": "string", "description": "Where in the request, as a JSON pointer (RFC 6901)"}, "detail": {"type": "string"}}
                }},
                "recipients": {"type": "array", "items": {"$ref": "#/components/schemas/Verdict"}}
              }
            }
          }
        """

    /// Members of the schema of a text without controls.
    private static func line(upTo limit: Int) -> String {
        let controls = #"\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029"#
        return #""type": "string", "maxLength": \#(limit), "pattern": "^[^\#(controls)]*$""#
    }
}
