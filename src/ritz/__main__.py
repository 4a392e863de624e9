from ritz.cli import main

main()
