"""The methods of the contract, one file a job or query; `registry` is their table."""
