package pgstore

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestStorableKnowsWhatJsonAllowsAndJsonbRefuses(t *testing.T) {
	for _, good := range []string{
		`{}`, `null`, `true`, ` [1, -2.5e10, 1E-300, 1e00000000010] `, `"e9999"`, `{"e9999":"[[[["}`, `"\\u0000"`, `"\u0001"`,
		`"\ud83d\uDE00"`, `"a\"\\"`, strings.Repeat("[", maxNesting) + strings.Repeat("]", maxNesting), `"` + strings.Repeat("[", 9999) + `"`,
	} {
		require.True(t, storable([]byte(good)), good)
	}
	for _, bad := range []string{
		``, ` `, `"`, `"\`, `"\u`, `"\u12`, `{`, `]`, `"\u0000"`, `{"\u0000":1}`, `"\ud83d"`, `"\ud83d\u0041"`, `"\ud83dxx"`, `"\ude00"`, `"\ud83d\`,
		`1e1000`, `1E+99999`, "\"\xff\"", "\x00", strings.Repeat("[", maxNesting+1) + strings.Repeat("]", maxNesting+1),
	} {
		require.False(t, storable([]byte(bad)), bad)
	}
}

func TestTextFitsATextColumn(t *testing.T) {
	for in, want := range map[string]string{
		"":            "",
		"plain":       "plain",
		"a\x00b":      "ab",
		"a\xff\xfeb":  "a?b",
		"1234567ü":    "1234567",
		"123456ü":     "123456ü",
		"12345😀":      "12345",
		"1234567\xff": "1234567?",
		"1234567890":  "12345678",
	} {
		got := text(in, 8)
		require.Equal(t, want, got)
		require.True(t, utf8.ValidString(got))
	}
}
