# The tables and keys of slimtad's sample as mdoc: a heading for each table, an item for each key with its default, and
# what the sample says behind it. `make install` puts it into slimta.conf.5 in place of @KEYS@:
#   awk -f keys.awk slimta.conf

# Text of the sample as a text line of mdoc.
function text(line) {
    gsub(/\\/, "\\e", line)
    if (line ~ /^['.]/) line = "\\\&" line
    return line
}

# Words for a macro: quotation marks would group them.
function words(line) {
    line = text(line)
    gsub(/"/, "\\(dq", line)
    return line
}

function close_list() {
    if (in_list) print ".El"
    in_list = 0
}

# What stands behind a key or table.
function tell(comment) {
    gsub(/  +/, " ", comment)
    if (comment != "") print text(comment)
}

# Splits `line` at the comment behind its value into `value` and `comment`.
function split_comment(line,    place) {
    place = match(line, / +# /)
    value = place ? substr(line, 1, RSTART - 1) : line
    comment = place ? substr(line, RSTART + RLENGTH) : ""
    if (!place && match(line, / +\(/) && line ~ /\)$/) { # what is said in brackets behind a key
        comment = substr(line, RSTART + RLENGTH - 1)
        value = substr(line, 1, RSTART - 1)
    }
    sub(/ +$/, "", value)
}

# The page itself has what stands before the first table.
!begun && !/^(# )?(\[|[a-z_]+ = )/ { next }
{ begun = 1 }

/^# ----/ { next }
/^#?$/ { if (in_prose) in_prose = 0; next }

/^(# )?\[/ {
    close_list()
    sub(/^# /, "")
    split_comment($0)
    if (value != last_table) {
        print ".Ss " words(value)
        tell(comment)
    }
    last_table = value
    next
}

/^(# )?[a-z_]+ = / {
    sub(/^# /, "")
    split_comment($0)
    key = value
    sub(/ = .*/, "", key)
    if ((last_table, key) in seen) next # a second edge, say
    seen[last_table, key] = 1
    if (!in_list) {
        if (last_table == "") print ".Ss Before all tables"
        print ".Bl -tag -width Ds"
    }
    in_list = 1
    in_prose = 0
    print ".It Ic " words(value)
    tell(comment)
    next
}

# The comment above goes on.
/^#          / {
    sub(/^# +/, "")
    print text($0)
    next
}

/^# / {
    if (!in_prose) print (in_list ? ".El\n" : "") ".Pp"
    in_list = 0
    in_prose = 1
    sub(/^# /, "")
    print text($0)
}

END { close_list() }
