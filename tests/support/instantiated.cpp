// The kernels and passes that the tests share, compiled once: the file that moe/instantiate_train.hpp asks a program
// for.
#include <moe/instantiate/train_definitions.hpp>
