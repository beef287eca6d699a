// Package channels is the hub as Phoenix clients meet it: who may open
// /socket, what devices and people find on the topics "sensor:<id>",
// "light:<id>" and "fleet:<name>", and how events of the domain reach those
// who watch. It translates between frames and calls; what is right or wrong is
// decided below, in devices and its other packages.
package channels
