package natsstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

const (
	codeWrongLastSequenceConstant = 10164 // as 10071, without the number
	codeWrongLastID               = 10070
	codeBatchTooLarge             = 10199
	codeBatchUnknown              = 10208
)

// pubAck is the answer to one message.
type pubAck struct {
	Stream    string              `json:"stream"`
	Seq       uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

func parseAck(data []byte) (pubAck, error) {
	var ack pubAck
	if err := json.Unmarshal(data, &ack); err != nil {
		return ack, fmt.Errorf("acknowledgement is not JSON: %w", err)
	}
	if ack.Error == nil && ack.Seq == 0 {
		return ack, errors.New("acknowledgement names no sequence")
	}
	return ack, nil
}

// plainAck reads the usual acknowledgement, {"stream":"EVENTS","seq":12}, without
// the cost of a JSON decoder. The prefix ends before the digits.
func plainAck(data []byte, prefix string) (seq uint64, ok bool) {
	if len(data) < len(prefix)+2 || string(data[:len(prefix)]) != prefix || data[len(data)-1] != '}' {
		return 0, false
	}
	return digits(data[len(prefix) : len(data)-1])
}

// digits reads a decimal number as the server writes it.
func digits[T string | []byte](s T) (n uint64, ok bool) {
	if len(s) == 0 || len(s) > 19 || (s[0] == '0' && len(s) > 1) {
		return 0, false
	}
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// wrongSequence returns the stream's last sequence out of a refusal that says it
// is not the expected one.
func wrongSequence(err *jetstream.APIError) (last uint64, ok bool) {
	if err.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, false
	}
	_, text, _ := strings.Cut(err.Description, "wrong last sequence: ")
	last, perr := strconv.ParseUint(text, 10, 64)
	return last, perr == nil
}

// refusal turns the server's no to the message that was to follow sequence after
// into an error.
func refusal(stream string, after uint64, err *jetstream.APIError) error {
	last, known := wrongSequence(err)
	switch {
	case known && last < after:
		// Nobody wrote: a message before this one is missing.
		return fmt.Errorf("stream %s ends at sequence %d, not at %d: it lost its end, or a message on the way", stream, last, after)
	case known:
		return fmt.Errorf("stream %s ends at sequence %d, not at %d: %w", stream, last, after, relay.ErrFenced)
	case err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence, err.ErrorCode == codeWrongLastSequenceConstant,
		err.ErrorCode == codeWrongLastID:
		return fmt.Errorf("stream %s does not end with sequence %d as it was sent: %w", stream, after, relay.ErrFenced)
	}
	return fmt.Errorf("stream %s refused sequence %d: %w", stream, after+1, err)
}
