#pragma once

#include <string>
#include <utility>

#include "moe/core/error.hpp"
#include "support/catch.hpp"

namespace moe_test {

/// What an Error said.
struct CaughtError {
    moe::ErrorCode code;
    std::string text;
};

/// Calls `mistake`, which must throw moe::Error, and returns what it said. Fails the test where nothing is thrown.
template <class Mistake>
CaughtError error_of(Mistake&& mistake) {
    try {
        std::forward<Mistake>(mistake)();
    } catch (const moe::Error& error) {
        return {error.code(), error.what()};
    }
    FAIL("no moe::Error was thrown");
    return {};
}

}  // namespace moe_test
