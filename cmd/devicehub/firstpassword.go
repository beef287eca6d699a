package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"devicehub/devices"
	"devicehub/devices/identity"
)

// firstPasswordFile holds the password of the first administrator where nobody sat at a terminal to
// read it: what is written to stderr stays in journals. It goes when the administrator has signed in,
// or has another password.
const firstPasswordFile = "initial-admin-password"

// keepFirstPassword puts the password that the first start made into its file, unless a terminal is
// there to show it on.
func (a *assembly) keepFirstPassword() error {
	if _, terminal := isTerminal(a.Out); terminal || a.setup.Password == "" {
		return nil
	}
	_, err := replaceFile(a.Data.Join(firstPasswordFile), strings.NewReader(a.setup.Password+"\n"))
	if err != nil {
		return fmt.Errorf("the first administrator's password: %w", err)
	}
	a.setup.Password = ""
	return nil
}

// firstPasswordIs is the sentence that says where the first password is found, or "" when it is no
// longer needed.
func (a *assembly) firstPasswordIs() string {
	if a.setup.Password != "" {
		return fmt.Sprintf("The password of %q is\n\n    %s\n\nIt is shown this once; change it with `devicehub user passwd %s`.", identity.FirstUser, a.setup.Password, identity.FirstUser)
	}
	path := a.Data.Join(firstPasswordFile)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return fmt.Sprintf("The password of %q is in the file\n\n    %s\n\nwhich goes when it has been used.", identity.FirstUser, path)
}

// dropFirstPassword removes the file when it is of no more use: somebody has signed in with the
// password, or it was changed.
func (a *assembly) dropFirstPassword(kind devices.ActorKind, name string) {
	if kind != devices.ActorUser || name != identity.FirstUser {
		return
	}
	if err := os.Remove(a.Data.Join(firstPasswordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.Log.Error("the first administrator's password is still in its file", "err", err)
	}
}
