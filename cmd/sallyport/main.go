// Command sallyport is a gateway for MCP and what runs it. See package sallyport/node/cli.
package main

import (
	"os"

	"sallyport/node/cli"
)

// version is set when a release is built.
var version = "dev"

func main() { os.Exit(cli.Main(version)) }
