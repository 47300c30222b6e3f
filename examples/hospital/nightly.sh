#!/bin/sh
# One night of a hospital: new files from an inbox, predictions, worklist, a table for the information system, a summary.
#
#     SKINKIT_WORKSPACE=/srv/skin sh nightly.sh            from cron or systemd; see README.md beside this file
#
# Settings, all of them environment variables:
#     SKINKIT_WORKSPACE   folder with skinkit.toml, an installed model and one inference cohort  (must be set)
#     SKINKIT_COHORT      that cohort                                                            (ward)
#     SKINKIT_PHOTOS      the folder the cohort reads; new files are moved here                  ($SKINKIT_WORKSPACE/photos)
#     SKINKIT_INBOX       where photos and the table arrive                                      ($SKINKIT_WORKSPACE/inbox)
#     SKINKIT_OUTBOX      where the tables for the information system go                         ($SKINKIT_WORKSPACE/outbox)
#                         (folders that are named here must exist: one that is absent may be a share that is not mounted)
#     SKINKIT_SETTLE_MIN  a file is taken when nothing has been written to it for so long        (10)
#     SKINKIT_ENCODING    utf-8, utf-8-sig (Excel) or gb18030                                    (utf-8-sig)
#     SKINKIT_KEY         key file, where ids are pseudonyms and the table is to have the real ones
#     SKINKIT_JOBS        processes                                                              (all cores)
#     SKINKIT_NAME_CASES  no: the summary counts failed cases and does not name them             (yes)
#     SKINKIT_KEEP_DAYS   days after which logs are deleted                                      (90)
#     SKINKIT             the program                                                            (skinkit)
#
# Exit codes are skinkit's own: 0 done, 3 done and some case failed for the first time, 6 another night is at work (nothing
# was touched), 129, 130 and 143 stopped by a signal, anything else: look at the summary. Run it as often as you like: what
# was done is not done again, and what was interrupted goes on.
set -u
umask 077
PYTHONUTF8=1 # file names are UTF-8 whatever the language of this shell is
export PYTHONUTF8

say() { printf '%s\n' "$*"; }
stop() { # code, words
    code=$1
    shift
    say "skinkit night: $*" >&2
    exit "$code"
}

[ -n "${SKINKIT_WORKSPACE:-}" ] || stop 2 "SKINKIT_WORKSPACE is not set; set it to the folder with skinkit.toml"
[ -f "$SKINKIT_WORKSPACE/skinkit.toml" ] || stop 2 "no skinkit.toml in $SKINKIT_WORKSPACE; make one with 'skinkit init'"
workspace=$(cd "$SKINKIT_WORKSPACE" && pwd) || stop 2 "$SKINKIT_WORKSPACE cannot be entered"
cohort=${SKINKIT_COHORT:-ward}
photos=${SKINKIT_PHOTOS:-$workspace/photos}
inbox=${SKINKIT_INBOX:-$workspace/inbox}
outbox=${SKINKIT_OUTBOX:-$workspace/outbox}
settle=${SKINKIT_SETTLE_MIN:-10}
encoding=${SKINKIT_ENCODING:-utf-8-sig}
keep_days=${SKINKIT_KEEP_DAYS:-90}
skinkit=${SKINKIT:-skinkit}
name_cases=${SKINKIT_NAME_CASES:-yes}
state=$workspace/nightly
stamp=$(date -u +%Y%m%dT%H%M%SZ)-$$

case $settle in
*[!0-9]* | "") stop 2 "SKINKIT_SETTLE_MIN=$settle is no number of minutes" ;;
esac
case $name_cases in
yes | no) ;;
*) stop 2 "SKINKIT_NAME_CASES=$name_cases is neither yes nor no" ;;
esac
case $inbox/ in
"$photos"/*) stop 2 "the inbox $inbox lies in $photos, which would be read before files have arrived" ;;
esac
command -v "$skinkit" >/dev/null 2>&1 || stop 2 "no program $skinkit; set SKINKIT to its path, or PATH"

# ---- a summary, whatever happens -----------------------------------------------------------------------------------
# It goes to stdout, then into a file whose room on the disk was taken on a night that had some, then under its name. The
# summary of the last night that was done is kept beside it.
reserve=$state/summary.reserve
reserved() { # file: takes room for 64 KiB, blank lines; fails where there is none
    [ -f "$1" ] && [ "$(wc -c <"$1")" -ge 65536 ] && return
    { awk 'BEGIN { for (i = 0; i < 65536; i++) print "" }' >"$1" && { sync "$1" || sync; }; } 2>/dev/null && return
    rm -f "$1"
    return 1
}
written() { # text, file: into the room the file has, which it keeps only as far as the text goes
    text=$(printf '%s' "$1" | head -c 60000)
    printf '%s\n' "$text" | dd of="$2" bs=65536 conv=notrunc 2>/dev/null &&
        length=$(printf '%s\n' "$text" | wc -c) && dd if=/dev/null of="$2" bs=1 seek="$((length))" 2>/dev/null
}
told() { # exit code, text
    printf '%s\n' "$2"
    [ -d "$state" ] || return 0
    # Where nothing is reserved and nothing can be, the place of the last summary is used, never that of the good one.
    reserved "$reserve" || mv -f "$state/summary.txt" "$reserve" 2>/dev/null
    written "$2" "$reserve" # as far as there is room: the cause comes first
    [ -s "$reserve" ] && mv -f "$reserve" "$state/summary.txt"
    case $1 in
    0 | 3)
        good=$state/summary.good
        cp "$state/summary.txt" "$good.part" 2>/dev/null && mv -f "$good.part" "$good.txt" || rm -f "$good.part"
        ;;
    esac
    reserved "$reserve" # for the next night
}
failed() { # exit code, words: nothing could be begun
    told "$1" "skinkit night $stamp: NOT DONE: $2
$([ -f "$state/summary.good.txt" ] && echo "the last night that was done: $state/summary.good.txt")"
    exit "$1"
}
mkdir -p "$state/logs" 2>/dev/null || failed 4 "$state/logs cannot be made (is its disk full or read-only?)"
there() { # setting, folder: whether it is there, on the disk it was on before; else $why
    why=
    [ -d "$2" ] || { why="no folder $2 (is its share mounted?); make it once, nobody else does" && return 1; }
    mounted=$(df -P "$2" 2>/dev/null | awk 'NR == 2 { sub(/^.*% +/, ""); print }')
    [ -n "$mounted" ] || { why="$2 does not answer (is its share there?)" && return 1; }
    [ -s "$state/$1.mount" ] || { printf '%s\n' "$2 $mounted" >"$state/$1.mount"; } 2>/dev/null || return 0
    case $(cat "$state/$1.mount") in
    "$2 $mounted") ;;
    "$2 "*) why="$2 is not mounted: it lies on $mounted now; if that is right, remove $state/$1.mount" && return 1 ;;
    *) printf '%s\n' "$2 $mounted" >"$state/$1.mount" ;; # another folder is set
    esac
}
place() { # setting, folder: what is written below an absent share is lost when it comes back
    case $2/ in
    "$workspace"/*) mkdir -p "$2" 2>/dev/null || failed 4 "$2 cannot be made (is its disk full or read-only?)" ;;
    esac
}
place photos "$photos"
place inbox "$inbox"
place outbox "$outbox"
there photos "$photos" || failed 4 "$why"
there inbox "$inbox" || failed 4 "$why"
# The outbox may be away: its tables wait.

# Two nights at once: the second leaves at once. The kernel drops this lock with its holder, so none is ever left behind.
# Where there is no flock, skinkit's own locks say the same (exit code 6) when it comes to writing.
if command -v flock >/dev/null 2>&1; then
    touch "$state/lock" 2>/dev/null || failed 4 "the disk of $state is full or cannot be written to; nothing was begun"
    exec 9>"$state/lock"
    flock -n 9 || stop 6 "another night is at work in $workspace"
    rm -rf "$state"/now.* "$photos/.incoming" # left by a night that was killed
fi

reserved "$reserve" # on a disk that is full by now there is one of an earlier night
work=$state/now.$$
log=$state/logs/$stamp.jsonl
child=
finish() {
    rm -rf "$work"
}
interrupted() { # code, signal
    trap '' INT TERM HUP
    if [ -n "$child" ]; then
        kill -"$2" "$child" 2>/dev/null
        wait "$child"
    fi
    say "skinkit night: stopped by a signal; the next night goes on from here" >&2
    exit "$1"
}
trap finish EXIT
trap 'interrupted 130 INT' INT
trap 'interrupted 143 TERM' TERM
trap 'interrupted 129 HUP' HUP
full() { failed 4 "the disk of $1 is full or cannot be written to; nothing was begun"; }
mkdir -p "$work" 2>/dev/null || full "$state"
touch "$log" 2>/dev/null || full "$state"
find "$state/logs" -name '*.jsonl' -mtime "+$keep_days" -exec rm -f {} +

# ---- 1. new files --------------------------------------------------------------------------------------------------
# A file is taken once its inode has rested for so long (-cmin: the time of change cannot be set back by a copy). It goes
# under a hidden name first, which no cohort reads, and takes its name when every byte has arrived. A file of the same
# name with other content is kept in nightly/replaced. What cannot be moved stays where it is.
cat >"$work/take.sh" <<'TAKE'
inbox=$1 photos=$2 replaced=$3 work=$4
shift 4
for file in "$@"; do
    name=${file#"$inbox"/}
    target=$photos/$name
    hidden=$photos/.incoming/$$
    if [ -d "$target" ]; then
        echo "$name is the name of a folder in $photos" >&2
        echo . >>"$work/stuck"
        continue
    fi
    if [ -f "$target" ] && cmp -s "$file" "$target"; then
        rm -f "$file" && echo . >>"$work/twice"
        continue
    fi
    if mkdir -p "${target%/*}" && cp -p "$file" "$hidden" && cmp -s "$file" "$hidden"; then
        if [ -e "$target" ]; then
            old=$replaced/$name
            mkdir -p "${old%/*}" && cp -p "$target" "$old" || { echo . >>"$work/stuck"; continue; }
            echo . >>"$work/replaced"
        fi
        mv -f "$hidden" "$target" && rm -f "$file" && echo . >>"$work/taken" && continue
    fi
    rm -f "$hidden"
    echo . >>"$work/stuck"
done
TAKE
mkdir -p "$photos/.incoming" 2>/dev/null || full "$photos"
# Counted are lines but the first, which takes the room; answers are written into room that was taken before, too.
for name in taken twice replaced stuck; do
    { echo counted >"$work/$name"; } 2>/dev/null || full "$state"
done
for name in predict explain report export status; do
    reserved "$work/$name.json" || full "$state"
done
settled="+$settle"
[ "$settle" = 0 ] && settled=-999999999 # everything that is there
find "$inbox" -type f ! -name '.*' ! -path '*/.*' -cmin "$settled" \
    -exec sh "$work/take.sh" "$inbox" "$photos" "$state/replaced/$stamp" "$work" {} + 2>>"$work/take.err"
rm -rf "$photos/.incoming"
count() { echo "$(($(wc -l <"$work/$1") - 1))"; }
waiting=$(find "$inbox" -type f ! -name '.*' ! -path '*/.*' -exec sh -c 'for f; do echo .; done' sh {} + | wc -l | tr -d ' ')

# ---- 2. skinkit ----------------------------------------------------------------------------------------------------
worst=0
broke=
step() { # name, then the command; its answer is in $work/NAME.json
    name=$1
    shift
    "$skinkit" "$@" --workspace "$workspace" --json --log-format json \
        1<>"$work/$name.json" 2>>"$log" 9>&- &
    child=$!
    wait "$child"
    code=$?
    child=
    case $code in
    0) ;;
    3) [ -n "$broke" ] || worst=3 ;;
    *)
        broke=$name
        worst=$code
        return 1
        ;;
    esac
}
field() { # the value of a key in an answer, of the outermost or within its error
    sed -n "s/^ \{1,2\}\"$2\": \"\{0,1\}\(.*[^\",]\)\"\{0,1\},\{0,1\}\$/\1/p" "$work/$1.json" 2>/dev/null | head -n 1
}
# A table and the token that follows it wait in nightly/due until the table has its name in the outbox. A night that is
# stopped, or finds no outbox, leaves them there, and the next one goes on: no later table overtakes it.
table=
deliver() {
    [ -d "$state/due" ] || return 0
    if [ -f "$state/due/table.csv" ]; then
        table=$outbox/$(cat "$state/due/name")
        there outbox "$outbox" && cp "$state/due/table.csv" "$table.part" && mv -f "$table.part" "$table" || {
            rm -f "$table.part"
            return 1
        }
        rm -f "$state/due/table.csv"
    fi
    [ ! -f "$state/due/token" ] || mv -f "$state/due/token" "$state/token" || return 1
    rm -rf "$state/due" "$state/until"
}
deliver || { broke=outbox worst=4; }
since=
for file in until token; do # 'until' is a time, of a night before there were tokens
    [ -f "$state/$file" ] && since=$(cat "$state/$file")
done
jobs=${SKINKIT_JOBS:+--jobs $SKINKIT_JOBS}
# shellcheck disable=SC2086 # $jobs is two words or none
{
    step predict predict --cohort "$cohort" $jobs &&
        step explain explain --cohort "$cohort" $jobs &&
        step report report --for clinic --cohort "$cohort" $jobs &&
        [ ! -d "$state/due" ] &&
        step export export --cohort "$cohort" --csv "$work/table.csv" --encoding "$encoding" --crlf \
            ${since:+--since "$since"} ${SKINKIT_KEY:+--reidentify "$SKINKIT_KEY"}
}
new=$(field export rows)
if [ -z "$broke" ] && [ -n "$new" ]; then
    mkdir "$work/due" && field export token >"$work/due/token" && [ -s "$work/due/token" ] &&
        { [ "$new" -eq 0 ] || mv "$work/table.csv" "$work/due/table.csv"; } &&
        echo "skinkit-$stamp.csv" >"$work/due/name" && mv "$work/due" "$state/due" || { broke=state worst=4; }
    deliver || { broke=outbox worst=4; }
fi

# ---- 3. the summary ------------------------------------------------------------------------------------------------
newly() { # stage and number of newly failed cases, of every artifact that was made tonight
    cat "$work/predict.json" "$work/explain.json" "$work/report.json" | awk '
        /^   "stage": / { gsub(/[",]/, ""); stage = $2 }
        /^   "up_to_date": / { made = /false/ }
        /^    "newly_failed": / { gsub(/,/, ""); if (made && $2 > 0) print stage, $2 }'
}
failing() { # the cases that fail now, by stage, as the tables of the workspace call them: pseudonyms where they have them
    "$skinkit" status --failed --workspace "$workspace" --json 2>>"$log" 1<>"$work/status.json" 9>&- || return
    awk -v cohort="$cohort/" '
        /^   "artifact": / { mine = index($0, "\"" cohort) }
        /^   "stage": / { gsub(/[",]/, ""); stage = $2 }
        /^   "failed_cases": / { listed = mine; next }
        /^   }/ { listed = 0 }
        listed { sub(/^ *"/, ""); sub(/",?$/, ""); sub(/": "/, ": "); n++; if (n <= 20) print "  " stage ": " $0 }
        END { if (n > 20) print "  ... and " n - 20 " more: skinkit status --failed" }' "$work/status.json"
}
cause() { # what an answer says was found, in one line
    case $1 in
    outbox) echo ": ${why:-$outbox cannot be written to}" ;;
    state) echo ": $state cannot be written to" ;;
    *) [ -n "$(field "$1" found)" ] && echo ": $(field "$1" found)" ;;
    esac
}
case $worst in
0) verdict="done" ;;
3) verdict="done, with newly failed cases" ;;
6) verdict="busy: another skinkit writes in $workspace" ;;
*) verdict="NOT DONE: $broke ended with exit code $worst$(cause "$broke")" ;;
esac
told "$worst" "$(
    say "skinkit night $stamp: $verdict"
    say ""
    say "files taken from the inbox:      $(count taken)"
    say "  of them in place of older ones: $(count replaced)   (kept in $state/replaced)"
    say "  there already, byte for byte:   $(count twice)"
    say "files still in the inbox:        $waiting   (younger than $settle minutes, or $(count stuck) that cannot be moved)"
    say "rows in the new table:           ${new:-none}"
    [ -n "$table" ] && say "  $table"
    [ -d "$state/due" ] && say "  waits for the outbox: the next night delivers it (${why:-it cannot be written to})"
    all=$(newly | awk '{ sum += $2; list = list ", " $1 " " $2 } END { print sum + 0 (sum ? "   (" substr(list, 3) ")" : "") }')
    say "cases that failed newly:         $all"
    cases=$([ "$name_cases" = no ] || failing)
    [ -n "$cases" ] && say "cases that fail now:" && say "$cases"
    say "worklist:                        $workspace/artifacts/report/clinic-$cohort/index.html"
    say "log:                             $log"
    if [ -n "$broke" ] && [ -s "$work/$broke.json" ]; then
        say ""
        for key in found expected fix; do
            say "$key: $(field "$broke" "$key")"
        done
    fi
    [ -s "$work/take.err" ] && say "" && cat "$work/take.err"
    [ -n "$broke" ] && [ -f "$state/summary.good.txt" ] && say "" && say "the last night that was done: $state/summary.good.txt"
    say ""
    say "Research software. Nothing it prints is a diagnosis."
)"
exit "$worst"
