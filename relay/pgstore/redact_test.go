package pgstore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRulesHideMembersOfLoggedPayloads(t *testing.T) {
	t.Parallel()
	r := newRedactor(LogRules{Redact: []string{"Email", "data.card.number", "data.items.code"}})
	for body, want := range map[string]string{
		`{"data":{"n": 12345678901234567890}}`:                  `{"data":{"n": 12345678901234567890}}`,
		`{"data":{"EMAIL":"a@b.c","n":12345678901234567890}}`:   `{"data":{"EMAIL":"***","n":12345678901234567890},"relay_redacted":["email"]}`,
		`{"data":{"a":[{"email":{"x":1}},{"email":null}]}}`:     `{"data":{"a":[{"email":"***"},{"email":"***"}]},"relay_redacted":["email"]}`,
		`{"data":{"card":{"number":"4111"},"number":1}}`:        `{"data":{"card":{"number":"***"},"number":1},"relay_redacted":["data.card.number"]}`,
		`{"data":{"items":[{"code":1},{"code":2}]},"code":3}`:   `{"code":3,"data":{"items":[{"code":"***"},{"code":"***"}]},"relay_redacted":["data.items.code"]}`,
		`{"data":{"\u0065mail":"a@b.c"}}`:                       `{"data":{"email":"***"},"relay_redacted":["email"]}`,
		`{"data":{"text":"my email is a secret\n"}}`:            `{"data":{"text":"my email is a secret\n"}}`,
		`{"data":{"email":1},"previous":{"card":{"number":1}}}`: `{"data":{"email":"***"},"previous":{"card":{"number":1}},"relay_redacted":["email"]}`,
	} {
		got := string(r.payload([]byte(body)))
		require.Equal(t, want, got)
		require.Equal(t, !strings.Contains(got, "relay_redacted"), wholePayload(got), got)
	}
	require.Contains(t, string(r.payload([]byte(`["email"]`))), "relay_omitted", "what cannot be redacted is not logged")
}

func TestRulesHideMembersOfLoggedAnswers(t *testing.T) {
	t.Parallel()
	r := newRedactor(LogRules{Redact: []string{"email"}})
	for body, want := range map[string]string{
		`ok`:                         `ok`,
		`{"email":"a@b.c"}`:          `{"email":"***"}`,
		`[{"email":"a@b.c"}]`:        `[{"email":"***"}]`,
		`{"email":"a@b.c","cut":"of`: answerWithheld,
		`thanks, email=a@b.c`:        answerWithheld,
		``:                           ``,
	} {
		require.Equal(t, want, r.answer(body))
	}
	require.Equal(t, map[string]string{"Email": "***", "server": "x"}, r.headers(map[string]string{"Email": "a@b.c", "server": "x"}))
	require.Nil(t, r.headers(nil))
}

func TestALargePayloadIsLoggedAsItsSizeAndHash(t *testing.T) {
	t.Parallel()
	r := newRedactor(LogRules{MaxPayload: 64})
	body := []byte(`{"data":"` + strings.Repeat("x", 60) + `"}`)
	sum := sha256.Sum256(body)
	got := string(r.payload(body))
	require.JSONEq(t, fmt.Sprintf(`{"relay_omitted":"the payload is larger than webhook.log_payload_max","bytes":%d,"sha256":%q}`, len(body), hex.EncodeToString(sum[:])), got)
	require.False(t, wholePayload(got))
	require.JSONEq(t, `{"data":"y"}`, string(r.payload([]byte(`{"data":"y"}`))))
}

func TestNoRulesCostNothing(t *testing.T) {
	body := []byte(`{"data":{"email":"a@b.c"}}`)
	r := newRedactor(LogRules{})
	require.Zero(t, testing.AllocsPerRun(100, func() { r.payload(body) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { r.answer("ok") }))
}

func FuzzRedactionHidesTheValue(f *testing.F) {
	f.Add(`{"data":{"email":"SECRETVALUE"}}`)
	f.Add(`{"em\u0061il":["SECRETVALUE"]}`)
	f.Add(`{"email":"SECRETVALUE","email":1}`)
	r := newRedactor(LogRules{Redact: []string{"email"}})
	f.Fuzz(func(t *testing.T, body string) {
		logged := r.payload([]byte(body))
		doc, ok := parsed(logged)
		if !ok {
			return // jsonb refuses it
		}
		var check func(any)
		check = func(v any) {
			switch v := v.(type) {
			case map[string]any:
				for name, value := range v {
					if strings.ToLower(name) == "email" {
						require.Equal(t, redacted, value)
					}
					check(value)
				}
			case []any:
				for _, value := range v {
					check(value)
				}
			}
		}
		check(doc)
	})
}
