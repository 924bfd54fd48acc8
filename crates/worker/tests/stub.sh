#!/bin/sh
# Plays the command line of an agent: writes down how it was called, and does what the test says, with the transcript
# in $TRANSCRIPT.
if [ -n "$STAGE" ]; then
    printf '%s\0' "$@" > "$STAGE/arguments"
    cat > "$STAGE/stdin"
fi
eval "$PLAY"
