package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

var (
	typeForm = regexp.MustCompile(`^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$`)
	idForm   = regexp.MustCompile(`^evt_[a-z2-7]{26}$`)
)

// encode checks the events and turns them into columns.
func encode(events []Event) (*[columnCount][]string, error) {
	if len(events) > MaxEvents {
		return nil, fmt.Errorf("%w: %d in one call; at most %d", ErrInvalid, len(events), MaxEvents)
	}
	var columns [columnCount][]string
	for i := range columns {
		columns[i] = make([]string, len(events))
	}
	total := 0
	seen := make(map[string]bool, len(events))
	for i := range events {
		row, err := encodeOne(&events[i])
		if err != nil {
			return nil, fmt.Errorf("%w: number %d of %d: %w", ErrInvalid, i+1, len(events), err)
		}
		if total += len(row[columnPayload]) + len(row[columnMetadata]); total > MaxTotalSize {
			return nil, fmt.Errorf("%w: more than %d bytes of JSON in one call; append in several", ErrInvalid, MaxTotalSize)
		}
		if seen[row[columnID]] {
			return nil, fmt.Errorf("%w: %q is in the call twice", ErrDuplicateID, row[columnID])
		}
		seen[row[columnID]] = true
		for c := range columns {
			columns[c][i] = row[c]
		}
	}
	return &columns, nil
}

func encodeOne(e *Event) (row [columnCount]string, err error) {
	if len(e.Type) > MaxTypeSize {
		return row, fmt.Errorf("the type has %d bytes; at most %d", len(e.Type), MaxTypeSize)
	}
	if !typeForm.MatchString(e.Type) {
		return row, fmt.Errorf("type %q is not noun.verb in lower-case letters, digits and _", e.Type)
	}
	if err := checkNames(e); err != nil {
		return row, err
	}
	row = [columnCount]string{
		columnID: e.ID, columnType: e.Type,
		columnAggregateType: e.Aggregate.Type, columnAggregateNS: e.Aggregate.NS, columnAggregateID: e.Aggregate.ID,
		columnUser: e.Owner.UserID, columnTenant: e.Owner.TenantID,
		columnVisibility: string(e.Visibility), columnMetadata: "{}",
	}
	if e.ID == "" {
		row[columnID] = newID()
	} else if !idForm.MatchString(e.ID) {
		return row, errors.New("the id is not evt_ and 26 characters of a to z and 2 to 7")
	}
	switch e.Visibility {
	case "":
		row[columnVisibility] = string(Private)
	case Private, Unlisted, Public:
	default:
		return row, errors.New("the visibility is not private, unlisted or public")
	}
	if !e.OccurredAt.IsZero() {
		at := e.OccurredAt.UTC().Truncate(time.Microsecond)
		if at.Year() < 1 || at.Year() > 9999 {
			return row, fmt.Errorf("occurred_at is in the year %d; from 1 to 9999", at.Year())
		}
		row[columnOccurredAt] = at.Format(time.RFC3339Nano)
	}
	if row[columnPayload], err = encodeObject(e.Payload); err != nil {
		return row, fmt.Errorf("payload: %w", err)
	}
	if e.Metadata != nil {
		if row[columnMetadata], err = encodeObject(e.Metadata); err != nil {
			return row, fmt.Errorf("metadata: %w", err)
		}
	}
	if size := len(row[columnPayload]) + len(row[columnMetadata]); size > MaxEventSize {
		return row, fmt.Errorf("payload and metadata have %d bytes; at most %d", size, MaxEventSize)
	}
	return row, nil
}

func checkNames(e *Event) error {
	for _, part := range [...]struct{ name, value string }{
		{"aggregate type", e.Aggregate.Type},
		{"aggregate namespace", e.Aggregate.NS},
		{"aggregate id", e.Aggregate.ID},
		{"user id", e.Owner.UserID},
		{"tenant id", e.Owner.TenantID},
	} {
		switch {
		case len(part.value) > MaxNameSize:
			return fmt.Errorf("the %s has %d bytes; at most %d", part.name, len(part.value), MaxNameSize)
		case !utf8.ValidString(part.value) || strings.ContainsRune(part.value, 0):
			return fmt.Errorf("the %s is not text: UTF-8 without U+0000", part.name)
		}
	}
	if e.Aggregate.Type == "" && e.Aggregate != (Aggregate{}) {
		return errors.New("the aggregate has no type")
	}
	return nil
}

// encodeObject returns v as a JSON object that jsonb takes.
func encodeObject(v any) (string, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	if doc[0] != '{' {
		return "", errors.New("must be a JSON object (bytes need the type json.RawMessage)")
	}
	if !utf8.Valid(doc) {
		return "", errors.New("is not UTF-8")
	}
	if err := checkJSON(doc); err != nil {
		return "", err
	}
	return string(doc), nil
}

// checkJSON finds in valid JSON what Postgres would refuse, at the price of the
// transaction, or what would not come out as it went in: the relay and receivers
// parse only so deep, and jsonb writes 1e100000 as a hundred thousand digits.
func checkJSON(doc []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(doc); i++ {
		switch c := doc[i]; {
		case c == '"':
			inString = !inString
		case c == '\\':
			n, ok := escape(doc[i:])
			if !ok {
				return errors.New("has an escape for U+0000 or for half of a surrogate pair, which jsonb cannot hold")
			}
			i += n - 1
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return fmt.Errorf("is nested deeper than %d levels", MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		case (c == 'e' || c == 'E') && exponentDigits(doc[i+1:]) > 3:
			return errors.New("has a number whose exponent has more than three digits")
		}
	}
	return nil
}

// escape tells the length of the escape at the start of valid JSON, a surrogate pair
// being one, and whether jsonb can hold what it stands for.
func escape(doc []byte) (n int, ok bool) {
	if doc[1] != 'u' {
		return 2, true
	}
	r := hex4(doc[2:])
	if !utf16.IsSurrogate(r) {
		return 6, r != 0
	}
	if len(doc) < 12 || doc[6] != '\\' || doc[7] != 'u' {
		return 6, false
	}
	return 12, utf16.DecodeRune(r, hex4(doc[8:])) != utf8.RuneError
}

func hex4(digits []byte) rune {
	v, err := strconv.ParseUint(string(digits[:4]), 16, 16)
	if err != nil {
		return 0 // not in valid JSON
	}
	return rune(v)
}

// exponentDigits counts the digits behind an e; true and false have none.
func exponentDigits(doc []byte) int {
	if len(doc) > 0 && (doc[0] == '+' || doc[0] == '-') {
		doc = doc[1:]
	}
	n := 0
	for n < len(doc) && doc[n] >= '0' && doc[n] <= '9' {
		n++
	}
	return n
}
