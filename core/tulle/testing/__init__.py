"""What plugin authors and the tests of tulle itself test with: contract classes, a clock, real servers, the lab."""
