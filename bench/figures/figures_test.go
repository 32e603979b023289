package figures

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAMedianIsTheMiddleAndAVerdictComparesIt(t *testing.T) {
	require.InDelta(t, 2, Samples{3, 1, 2}.Median(), 0)
	require.InDelta(t, 2.5, Samples{4, 1, 2, 3}.Median(), 0)
	require.Equal(t, Samples{2, 3}, Samples{4, 9}.Over(Samples{2, 3}))
	for want, g := range map[string]Goal{
		"met":                          {Value: Samples{1}, Limit: 1},
		"missed":                       {Value: Samples{1.1}, Limit: 1},
		"within must":                  {Value: Samples{1.1}, Limit: 1, Must: 1.3},
		"not measured: no quiet round": {Limit: 1},
	} {
		require.Equal(t, want, g.Verdict())
	}
	require.Equal(t, "met", Goal{Value: Samples{3000}, Limit: -3000}.Verdict())
	require.Equal(t, "missed", Goal{Value: Samples{2999}, Limit: -3000}.Verdict())
}

func TestAShortRunDecidesNothing(t *testing.T) {
	r := Report{Short: true}
	r.Goal("G1", "what", Samples{1, 3}, "≤ 2", 2, 0)
	r.Figure("other", "ns", Samples{0.5})
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	r.WriteGoals(line)
	r.WriteFigures(line)
	require.Contains(t, out.String(), "| G1 | what | 2 | 1–3 | ≤ 2 | not decided |\n")
	require.Contains(t, out.String(), "| other | 0.50 |  | ns |\n")
	require.Len(t, r.Rows(), 2)
	r.Short = false
	require.Equal(t, "met", r.Verdict(r.Goals[0]))
}
