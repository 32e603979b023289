//go:build failpoint

package failpoint

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRulesNameAPlaceAnActionAndAPassage(t *testing.T) {
	got, err := parse("publish.sent=kill@250 map.change=panic")
	require.NoError(t, err)
	require.Equal(t, map[string]*rule{Sent: {"kill", 250}, Mapping: {"panic", 1}}, got)
	for _, wrong := range []string{"nowhere=kill", "publish.sent=explode", "publish.sent=kill@0", "publish.sent=kill@x", "publish.sent"} {
		_, err := parse(wrong)
		require.ErrorContains(t, err, wrong)
	}
}
