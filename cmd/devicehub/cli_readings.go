package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"devicehub/devices/readings"
)

func (a *app) readingsCommand() *cobra.Command {
	return group("readings", "What the hub keeps of what devices measured", a.readingsCheck())
}

// readingsCheck is `readings check`. It ends with 1 when there is something left
// that no device can have sent.
func (a *app) readingsCheck() *cobra.Command {
	var repair, misfiled, asJSON bool
	cmd := a.command("check", "Find series of readings that no device can have sent", cobra.NoArgs, false,
		func(ctx context.Context, c *api, _ []string) error {
			if repair {
				return a.repairReadings(ctx, c, misfiled, asJSON)
			}
			var r struct {
				Series []readings.Finding `json:"series"`
			}
			if err := c.call(ctx, "GET", apiPath("readings", "check"), nil, nil, &r); err != nil {
				return err
			}
			if asJSON {
				if err := a.printJSON(r); err != nil {
					return err
				}
			} else if err := a.findings(r.Series, ""); err != nil {
				return err
			}
			a.adviseTokens(r.Series)
			return foundSeries(r.Series)
		})
	cmd.Long = `Find series of readings that no device can have sent.

Earlier builds could store a reading that came over MQTT on r/<metric> under
another name: a piece of whatever another connection had sent, a token included,
or another metric's name. A series is found when its name is no metric's name, or
when a metric of the catalogue stands there in a unit or type that neither the
catalogue nor the device's record has: then it is misfiled, unless a declaration
was changed since.

--repair erases the first kind, from the log, the history, the roll-ups and the
latest values; with --misfiled the second, too. The hub may be running: it takes
no readings for the moment that this takes, and devices are answered after it.
The exit code is 1 when something is found, and with --repair when something
stays.`
	cmd.Flags().BoolVar(&repair, "repair", false, "erase what is found, for good")
	cmd.Flags().BoolVar(&misfiled, "misfiled", false, "with --repair: erase misfiled series, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if misfiled && !repair {
			return usagef("--misfiled goes with --repair")
		}
		return nil
	}
	return cmd
}

func (a *app) repairReadings(ctx context.Context, c *api, misfiled, asJSON bool) error {
	var r struct {
		Erased []readings.Finding `json:"erased"`
		Left   []readings.Finding `json:"left"`
	}
	body := map[string]bool{"misfiled": misfiled}
	if err := c.call(ctx, "POST", apiPath("readings", "repair"), nil, body, &r); err != nil {
		return err
	}
	if asJSON {
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else if err := a.findings(r.Erased, "erased"); err != nil {
		return err
	}
	if len(r.Erased) > 0 {
		fmt.Fprintf(a.err, "%s erased\n", countSeries(r.Erased))
	}
	a.adviseTokens(r.Erased)
	return leftSeries(r.Left)
}

// findings is the table of what was found, or of what was done with it. It never
// shows a token: of a name that is no metric's the hub tells the first bytes
// alone.
func (a *app) findings(list []readings.Finding, done string) error {
	if len(list) == 0 {
		none := "every series has a name that its device can have sent"
		if done != "" {
			none = "nothing was " + done
		}
		_, err := fmt.Fprintln(a.out, none)
		return err
	}
	rows := [][]string{{"DEVICE", "NAME", "BYTES", "WHY", "READINGS", "FIRST", "LAST"}}
	for _, f := range list {
		why := "no metric's name"
		switch {
		case f.Token:
			why = "like a piece of a token"
		case f.Why == readings.WhyUnit:
			why = "misfiled: " + string(f.Type)
			if f.Unit != "" {
				why = "misfiled: " + f.Unit
			}
		}
		rows = append(rows, []string{string(f.Device), f.Name, strconv.Itoa(f.Bytes), why, strconv.FormatInt(f.Readings, 10), when(f.First), when(f.Last)})
	}
	return a.table(rows)
}

// adviseTokens says what to do when tokens may have been shown.
func (a *app) adviseTokens(list []readings.Finding) {
	n, first, last := 0, int64(0), int64(0)
	for _, f := range list {
		if !f.Token {
			continue
		}
		n++
		if first == 0 || f.First > 0 && f.First < first {
			first = f.First
		}
		last = max(last, f.Last)
	}
	if n == 0 {
		return
	}
	fmt.Fprintf(a.err, "%d of these names look like pieces of tokens, and whoever may read the device may have seen them; rotate the tokens of the devices "+
		"(`devicehub token rotate ID --grace 0`) and accounts that were connected over MQTT from %s to %s, short ones first\n", n, when(first), when(last))
}

func foundSeries(list []readings.Finding) error {
	if len(list) == 0 {
		return nil
	}
	misfiled := 0
	for _, f := range list {
		if f.Why == readings.WhyUnit {
			misfiled++
		}
	}
	switch misfiled {
	case 0:
		return fmt.Errorf("%s found that no device can have sent; `devicehub readings check --repair` erases them", countSeries(list))
	case len(list):
		return fmt.Errorf("%s found, misfiled; look whether they are, `devicehub readings check --repair --misfiled` erases them", countSeries(list))
	}
	return fmt.Errorf("%s found that no device can have sent, %d of them misfiled; `devicehub readings check --repair` erases all but those, with --misfiled those, too", countSeries(list), misfiled)
}

func leftSeries(list []readings.Finding) error {
	if len(list) == 0 {
		return nil
	}
	return fmt.Errorf("%s left, misfiled; look whether they are, --misfiled erases them, too", countSeries(list))
}

// countSeries is how many series there are, with how many readings.
func countSeries(list []readings.Finding) string {
	n := int64(0)
	for _, f := range list {
		n += f.Readings
	}
	plural := func(n int64, one, many string) string {
		if n == 1 {
			return "1 " + one
		}
		return strconv.FormatInt(n, 10) + " " + many
	}
	return plural(int64(len(list)), "series", "series") + " with " + plural(n, "reading", "readings")
}
