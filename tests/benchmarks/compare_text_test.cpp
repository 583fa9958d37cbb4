#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#include "support/catch.hpp"

#include "../../benchmarks/compare/output/text.hpp"

namespace moe_test::compare_text_test {

using namespace compare;

TEST_CASE("a rounded figure has three significant digits") {
    CHECK(rounded(0) == "0");
    CHECK(rounded(-0.0) == "0");
    CHECK(rounded(9.994) == "9.99");
    CHECK(rounded(9.996) == "10.0");
    CHECK(rounded(99.96) == "100");
    CHECK(rounded(0.9996) == "1.00");
    CHECK(rounded(-1.5) == "-1.50");
    CHECK(rounded(12345.6) == "12346");
    CHECK(rounded(0.00123) == "0.00123");
    CHECK(rounded(0.000999) == "9.99e-04");
    CHECK(rounded(999'499) == "999499");
    CHECK(rounded(999'600) == "1.00e+06");
    CHECK(rounded(std::numeric_limits<double>::quiet_NaN()) == "-");
    CHECK(rounded(-std::numeric_limits<double>::infinity()) == "-");
}

TEST_CASE("a tally is a whole number where it is one") {
    CHECK(tally(8) == "8");
    CHECK(tally(-0.0) == "0");
    CHECK(tally(2.5) == "2.50");
    CHECK(tally(123'456) == "123456");
    CHECK(tally(1e9) == "1.00e+09");
    CHECK(tally(std::numeric_limits<double>::quiet_NaN()) == "-");
    CHECK(tally(std::numeric_limits<double>::infinity()) == "-");
}

TEST_CASE("an exact figure reads back to the same bits") {
    for (const double value :
         {0.1 + 0.2, 1.0 / 3, 5e-324, std::numeric_limits<double>::max(), -0.0, 1e21, 123456789.125}) {
        const double read = std::strtod(exact(value).c_str(), nullptr);
        CHECK(read == value);
        CHECK(std::signbit(read) == std::signbit(value));
    }
    CHECK(exact(0.1) == "0.1");
    CHECK(exact(std::numeric_limits<double>::quiet_NaN()).empty());
    CHECK(exact(std::numeric_limits<double>::infinity()).empty());
}

TEST_CASE("what is no UTF-8 is replaced byte by byte") {
    const std::string mark = "\xEF\xBF\xBD";
    for (const char* const whole : {"", "plain", "\xC3\xB6", "\xE2\x82\x82", "\xEF\xBF\xBF", "\xF0\x9F\x98\x80",
                                    "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF", "\xEE\x80\x80"}) {
        CHECK(clean_utf8(whole) == whole);
    }
    CHECK(clean_utf8("a\xFFz") == "a" + mark + "z");
    CHECK(clean_utf8("\xC3(") == mark + "(");
    CHECK(clean_utf8("\xE2\x82") == mark + mark);                        // cut short
    CHECK(clean_utf8("\xC0\xAF") == mark + mark);                        // overlong
    CHECK(clean_utf8("\xE0\x80\xAF") == mark + mark + mark);             // overlong
    CHECK(clean_utf8("\xED\xA0\x80") == mark + mark + mark);             // a surrogate
    CHECK(clean_utf8("\xF4\x90\x80\x80") == mark + mark + mark + mark);  // above U+10FFFF
    CHECK(clean_utf8("a\nb") == "a\nb");
}

TEST_CASE("control characters do not reach the terminal") {
    const std::string mark = "\xEF\xBF\xBD";
    CHECK(printable("a\nb\tc\x1b[31m\x7f") == "a" + mark + "b" + mark + "c" + mark + "[31m" + mark);
    CHECK(printable("\xC2\x9B") == mark);        // CSI of C1
    CHECK(printable("\xC2\xA0") == "\xC2\xA0");  // a space that does not break
    CHECK(printable(std::string_view("\0", 1)) == mark);
}

TEST_CASE("columns are aligned by code points") {
    Grid grid({"name", "n", "load"});
    grid.add({"t\xC3\xB6p", "1", ""});
    grid.add({"expert", "1024", "3/4"});
    CHECK(grid.text("> ") ==
          "> name       n  load\n"
          "> t\xC3\xB6p        1\n"
          "> expert  1024   3/4\n");
}

}  // namespace moe_test::compare_text_test
