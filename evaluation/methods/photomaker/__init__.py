"""PhotoMaker: a face in the place of the class noun of a prompt."""
