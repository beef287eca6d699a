// Command devicehub connects sensors and lights to the people who watch and
// control them. `devicehub serve` runs the hub; every other command asks the
// hub that holds the data folder, or opens the folder itself when none does,
// or asks a hub elsewhere (--url).
package main

import (
	_ "time/tzdata" // for tz=, on machines that have none

	"context"
	"os"
)

func main() {
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, serve: serve, open: openHub, restore: restoreFrom}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}
