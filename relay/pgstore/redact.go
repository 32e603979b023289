package pgstore

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// LogRules say what the delivery log does not get. The zero value keeps everything.
type LogRules struct {
	// Redact names members whose values are replaced in payloads and answers: an
	// email anywhere, or data.customer.email at that place, letters in any case.
	Redact []string
	// MaxPayload is the size, in bytes, beyond which only the size and a hash of the
	// payload are kept; 0 is no bound.
	MaxPayload int
}

const (
	redacted = "***"
	// memberOmitted and memberRedacted tell in a logged payload that it is not what
	// was sent.
	memberOmitted  = "relay_omitted"
	memberRedacted = "relay_redacted"

	reasonUnstorable = "the payload is JSON that jsonb cannot hold"
	reasonTooLarge   = "the payload is larger than webhook.log_payload_max"
	reasonUnreadable = "the payload is no JSON object, so that nothing could be redacted in it"
	// answerWithheld stands for an answer in which nothing can be replaced.
	answerWithheld = "[withheld: no JSON, and it holds the name of a redacted member]"
)

// redactor applies rules.
type redactor struct {
	max   int
	paths [][]string // from the top
	names []string   // anywhere
	seeds [][]byte   // what a text must hold, in lower case, for a rule to apply
}

func newRedactor(rules LogRules) *redactor {
	r := &redactor{max: rules.MaxPayload}
	for _, rule := range rules.Redact {
		path := strings.Split(strings.ToLower(rule), ".")
		if len(path) == 1 {
			r.names = append(r.names, path[0])
		} else {
			r.paths = append(r.paths, path)
		}
		r.seeds = append(r.seeds, []byte(path[len(path)-1]))
	}
	return r
}

// payload is what the log's payload column gets: the body, or what rules leave of it,
// or a note that stands for it.
func (r *redactor) payload(body []byte) []byte {
	switch {
	case r.max > 0 && len(body) > r.max:
		return placeholder(body, reasonTooLarge)
	case !storable(body):
		return placeholder(body, reasonUnstorable)
	case !r.concerns(body):
		return body
	}
	doc, ok := parsed(body)
	object, isObject := doc.(map[string]any)
	if !ok || !isObject {
		return placeholder(body, reasonUnreadable)
	}
	hidden := r.apply(object)
	if len(hidden) == 0 {
		return body
	}
	slices.Sort(hidden)
	object[memberRedacted] = slices.Compact(hidden)
	out, err := json.Marshal(object)
	if err != nil {
		return placeholder(body, reasonUnreadable)
	}
	return out
}

// answer is what the log gets of a response's body.
func (r *redactor) answer(body string) string {
	if !r.concerns([]byte(body)) {
		return body
	}
	doc, ok := parsed([]byte(body))
	if !ok {
		return answerWithheld
	}
	if len(r.apply(doc)) == 0 {
		return body
	}
	out, err := json.Marshal(doc)
	if err != nil {
		return answerWithheld
	}
	return string(out)
}

// headers masks the values of headers that a rule names.
func (r *redactor) headers(h map[string]string) map[string]string {
	if len(r.names) == 0 || h == nil {
		return h
	}
	out := make(map[string]string, len(h))
	for name, value := range h {
		if slices.Contains(r.names, strings.ToLower(name)) {
			value = redacted
		}
		out[name] = value
	}
	return out
}

// concerns is false for a text in which no rule can find anything. A name may be
// written with escapes: then only parsing tells.
func (r *redactor) concerns(body []byte) bool {
	if len(r.seeds) == 0 {
		return false
	}
	if bytes.IndexByte(body, '\\') >= 0 {
		return true
	}
	lower := bytes.ToLower(body)
	return slices.ContainsFunc(r.seeds, func(seed []byte) bool { return bytes.Contains(lower, seed) })
}

// parsed reads one JSON value; numbers keep their digits.
func parsed(text []byte) (doc any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&doc) != nil {
		return nil, false
	}
	return doc, !d.More()
}

// apply replaces the values of members in place and returns the rules that found one.
func (r *redactor) apply(doc any) (hit []string) {
	return r.walk(doc, nil)
}

func (r *redactor) walk(doc any, at []string) (hit []string) {
	switch doc := doc.(type) {
	case map[string]any:
		for name, value := range doc {
			lower := strings.ToLower(name)
			here := append(slices.Clip(at), lower)
			switch {
			case slices.Contains(r.names, lower):
				doc[name], hit = redacted, append(hit, lower)
			case slices.ContainsFunc(r.paths, func(p []string) bool { return slices.Equal(p, here) }):
				doc[name], hit = redacted, append(hit, strings.Join(here, "."))
			default:
				hit = append(hit, r.walk(value, here)...)
			}
		}
	case []any: // a rule goes through lists
		for _, value := range doc {
			hit = append(hit, r.walk(value, at)...)
		}
	}
	return hit
}

// wholePayload tells a logged payload that is what was sent.
func wholePayload(payload string) bool {
	var top map[string]json.RawMessage
	if json.Unmarshal([]byte(payload), &top) != nil {
		return payload != ""
	}
	return top[memberOmitted] == nil && top[memberRedacted] == nil
}
