#include "layer/reference_runner.hpp"
#include "support/catch.hpp"

TEST_CASE("float layers compute what the definition says", "[reference]") {
    const moe_test::Tally tally = moe_test::check_random_layers<float>(1, 1200);
    INFO(tally.first_failure);
    CHECK(tally.cases == 6000);
    CHECK(tally.failures == 0);
    CHECK(tally.undecided * 50 < tally.tokens);
    CHECK(tally.whole > 2000);
    CHECK(tally.error <= 1e-12 * tally.power);
    CHECK(tally.whole_error <= 1e-12 * tally.whole_power);
    WARN(tally.cases << " cases " << tally.tokens << " tokens " << tally.undecided << " undecided " << tally.whole << " whole; nmse " << tally.error/tally.power << " whole " << tally.whole_error/tally.whole_power << " failures " << tally.failures);
}
