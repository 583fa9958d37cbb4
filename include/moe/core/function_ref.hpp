#pragma once

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

#include "../config.hpp"

namespace moe::inline MOE_ABI {

template <class Signature>
class FunctionRef;

/// A callable of somebody else, by reference: two pointers, no allocation. It must outlive the reference.
template <class Result, class... Args>
class FunctionRef<Result(Args...)> {
public:
    template <class F>
        requires(!std::same_as<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<Result, F&, Args...>)
    FunctionRef(F&& callable)  // NOLINT: implicit, so that a lambda can be passed in place
        : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
          call_([](void* object, Args... args) -> Result {
              return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
          }) {}

    Result operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

private:
    void* object_;
    Result (*call_)(void*, Args...);
};

}  // namespace moe::inline MOE_ABI
