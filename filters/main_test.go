package filters_test

import (
	"flag"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/pgtest"
)

var (
	update = flag.Bool("update", false, "rewrite the results in testdata/*.txtar")
	seed   = flag.Uint64("seed", 1, "first seed of the comparison with Postgres")
	pairs  = flag.Int("pairs", 300_000, "how many pairs to compare with Postgres, half of them with operators")
	lives  = flag.Int("lives", 40, "how many random lives of an index to compare with a list")
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// compile compiles a filter that must be good.
func compile(t testing.TB, src string) *filters.Filter {
	t.Helper()
	f, err := filters.Compile([]byte(src))
	require.NoError(t, err, src)
	return f
}

// mistakes compiles a filter that must be bad.
func mistakes(t testing.TB, src string) filters.Errors {
	t.Helper()
	f, err := filters.Compile([]byte(src))
	require.Nil(t, f)
	var errs filters.Errors
	require.ErrorAs(t, err, &errs)
	require.NotEmpty(t, errs)
	return errs
}

// verdict says yes or no as a Verdict.
func verdict(yes bool) filters.Verdict {
	if yes {
		return filters.Yes
	}
	return filters.No
}
