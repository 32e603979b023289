package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/dot-do/relay/internal/secret"
)

const canary = "canary-7f3a"

func TestStringPrintsAsStarsEverywhere(t *testing.T) {
	type settings struct {
		URL    secret.String
		hidden secret.String
	}
	value := settings{URL: secret.New(canary), hidden: secret.New(canary)}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%20s"} {
		fmt.Fprintf(&out, verb+"\n", value.URL)
		fmt.Fprintf(&out, verb+"\n", &value.URL)
		fmt.Fprintf(&out, verb+"\n", value)
		fmt.Fprintf(&out, verb+"\n", &value)
		fmt.Fprintf(&out, verb+"\n", []any{value, map[string]any{"k": value.hidden}})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("dump", "url", value.URL, "all", value)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("dump", "url", value.URL, "all", value)
	require.NoError(t, json.NewEncoder(&out).Encode(value))
	require.NoError(t, yaml.NewEncoder(&out).Encode(value))
	require.NoError(t, json.NewEncoder(&out).Encode(map[secret.String]int{value.URL: 1}))

	require.Contains(t, out.String(), "***")
	require.NotContains(t, out.String(), canary)
	require.NotContains(t, out.String(), fmt.Sprintf("%x", canary))
	require.NotContains(t, out.String(), fmt.Sprintf("%X", canary))
}

func TestStringShowsWhetherItIsSet(t *testing.T) {
	require.Equal(t, "***", secret.New("x").String())
	require.Empty(t, secret.String{}.String())
	require.True(t, secret.New("").IsZero())
	require.False(t, secret.New("x").IsZero())
}

func TestStringRevealsWhatItWasGiven(t *testing.T) {
	require.Equal(t, canary, secret.New(canary).Reveal())
	require.Empty(t, secret.String{}.Reveal())

	var fromJSON, fromYAML secret.String
	require.NoError(t, json.Unmarshal([]byte(`"`+canary+`"`), &fromJSON))
	require.NoError(t, yaml.Unmarshal([]byte(canary), &fromYAML))
	require.True(t, fromJSON.Equal(secret.New(canary)))
	require.True(t, fromYAML.Equal(fromJSON))
	require.False(t, fromYAML.Equal(secret.New("other")))
}
