package failpoint

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoPlaceFailsUnlessTheBuildAndTheEnvironmentSaySo(t *testing.T) {
	for _, place := range Places() {
		Hit(place)
		require.False(t, Drop(place), place)
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { Hit(Sent) }))
}
