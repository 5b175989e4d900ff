-- Every view and every SELECT of the seed, while nothing is closed.
SELECT seed.check_answers();
