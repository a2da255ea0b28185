// All kernels through the host shim; harness.h says how it is called.
#include "frames_test.h"
#include "shim_test.h"
#include "spatial_convolution_test.h"

int main(int count, char **arguments) {
  check::shim_cases();
  check::temporal_convolution_cases();
  check::spatial_convolution_cases();
  check::attention_cases();
  check::other_cases();
  return check::main(count, arguments);
}
